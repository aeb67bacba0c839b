// SPDX-License-Identifier: Apache-2.0

package command

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func flowAt(node string, at time.Time) *event {
	return newEvent(node, &agentv1.ObserveFlowsResponse{Response: &agentv1.ObserveFlowsResponse_Flow{Flow: &agentv1.Flow{Time: timestamppb.New(at)}}})
}

// What arrives within the span is shown in the order of its times, nothing is held
// for longer or lost, and no more is held than the limit.
func TestWindowPutsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const span, limit = 100 * time.Millisecond, 8
		w := &window{span: span, limit: limit}
		clock := now()
		var arrived, shown []*event
		take := func() {
			for _, e := range w.due(clock) {
				if late := clock.Sub(e.arrived); late > span+10*time.Millisecond {
					t.Fatalf("shown %v after it came", late)
				}
				shown = append(shown, e)
			}
			if w.held > limit {
				t.Fatalf("%d are held", w.held)
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			clock = clock.Add(10 * time.Millisecond)
			for range rapid.IntRange(0, 3).Draw(t, "flows") {
				late := time.Duration(rapid.IntRange(0, 90).Draw(t, "late")) * time.Millisecond
				e := flowAt("n", clock.Add(-late))
				arrived = append(arrived, e)
				w.add(e, clock)
			}
			take()
		}
		if wait, held := w.wait(clock); held != (w.held > 0) || wait > span {
			t.Fatalf("wait %v, %v with %d held", wait, held, w.held)
		}
		for range int(span / (10 * time.Millisecond)) {
			clock = clock.Add(10 * time.Millisecond)
			take()
		}
		if len(shown) != len(arrived) || w.held != 0 {
			t.Fatalf("%d of %d were shown, %d are held", len(shown), len(arrived), w.held)
		}
	})
}

func TestWindowShowsTheEarlierFirst(t *testing.T) {
	w := &window{span: 100 * time.Millisecond, limit: 100}
	for i, late := range []int{0, 50, 20} {
		w.add(flowAt(string(rune('a'+i)), now().Add(-time.Duration(late)*time.Millisecond)), now())
	}
	var got []string
	for _, e := range w.due(now().Add(100 * time.Millisecond)) {
		got = append(got, e.node)
	}
	if !slices.Equal(got, []string{"b", "c", "a"}) {
		t.Errorf("got %v", got)
	}
}

// An agent that is replaced by one in another pod is followed there; the other
// node's flows go on.
func TestFollowingAClusterOutlastsANewPod(t *testing.T) {
	first := &agent{status: on("worker-1", 13), flows: story()[:2]}
	w := newWorld(t, &agent{status: on("worker-2", 13)}, first)
	second := serve(t, &agent{status: on("worker-2", 13), flows: story()})
	f := w.follow(t, "--last", "2")
	expect(t, f.stdout, "worker-2 FORWARDED demo/client:40001")
	expect(t, f.stdout, "worker-2 DROPPED   demo/intruder:41234")

	w.replace(t, "weft-agent-worker-2", "weft-agent-new", "worker-2", second)
	expect(t, f.stderr, "the agent went away; waiting for it at node worker-2, pod weft-system/weft-agent-worker-2")
	expect(t, f.stderr, "the agent is back on node worker-2")
	expect(t, f.stdout, "worker-2 DROPPED   demo/intruder:41235")
	f.interrupt()
	go io.Copy(io.Discard, f.stdout) //nolint:errcheck // what nobody reads any more
	go io.Copy(io.Discard, f.stderr) //nolint:errcheck // the same
	if got := <-f.done; got.code != ExitOK {
		t.Errorf("exit %d", got.code)
	}
}

func TestFollowingBeginsWithTheAgentsThatAreThere(t *testing.T) {
	w := newWorld(t, &agent{status: on("worker-1", 13), flows: story()[:1]}, &agent{status: on("worker-2", 13)})
	delete(w.sockets, "weft-agent-worker-2")
	f := w.follow(t, "--last", "1")
	expect(t, f.stderr, "cannot be reached at node worker-2, pod weft-system/weft-agent-worker-2")
	expect(t, f.stdout, "worker-1 FORWARDED demo/client:40001")
	f.interrupt()
	go io.Copy(io.Discard, f.stdout) //nolint:errcheck // what nobody reads any more
	go io.Copy(io.Discard, f.stderr) //nolint:errcheck // the same
	if got := <-f.done; got.code != ExitOK {
		t.Errorf("exit %d", got.code)
	}
	delete(w.sockets, "weft-agent-worker-1")
	if got := w.run(t, "observe", "-f"); got.code != ExitUnreachable || !strings.Contains(got.stderr, "worker-1") {
		t.Errorf("exit %d: %s", got.code, got.stderr)
	}
}

func TestLossIsToldByNode(t *testing.T) {
	w := newWorld(t, &lossy{}, &agent{flows: story()[:1]})
	got := w.run(t, "observe")
	if got.code != ExitOK || !strings.Contains(got.stderr, "12 flows were lost on node worker-1") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("exit %d: %s%s", got.code, got.stdout, got.stderr)
	}
}
