// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/tests/sandbox"
)

// traffic is everything that must not notice what becomes of the agent.
type traffic struct {
	streams []*sandbox.Stream
	loops   []*sandbox.Loop
}

// startTraffic transfers and asks without pause, over both families.
func startTraffic(t *testing.T, from, to *sandbox.Pod, port uint16) *traffic {
	t.Helper()
	tr := &traffic{}
	for _, a := range addrs(to) {
		for _, every := range []time.Duration{0, 20 * time.Millisecond} {
			s, err := sandbox.StartStream(sandbox.StreamConfig{NS: from.NS, Addr: hostPort(a, port), Every: every})
			ok(t, err)
			t.Cleanup(func() { s.Stop() })
			tr.streams = append(tr.streams, s)
		}
		for network, fresh := range map[string]bool{"tcp": true, "udp": false} {
			l := sandbox.StartLoop(sandbox.LoopConfig{
				NS: from.NS, Network: network, Addr: hostPort(a, port),
				Every: 5 * time.Millisecond, Timeout: soon, Fresh: fresh,
			})
			t.Cleanup(func() { l.Stop() })
			tr.loops = append(tr.loops, l)
		}
	}
	return tr
}

// goesOn waits until every transfer and every loop has come further by some,
// and fails if anything was refused, reset or unanswered.
func (tr *traffic) goesOn(n *node, when string) {
	n.t.Helper()
	var echoed []uint64
	var done []int
	for _, s := range tr.streams {
		echoed = append(echoed, s.Progress().Echoed)
	}
	for _, l := range tr.loops {
		done = append(done, l.Report().Done)
	}
	ok(n.t, sandbox.Eventually(n.ctx, soon, "traffic "+when, func() error {
		for i, s := range tr.streams {
			if p := s.Progress(); p.Err == nil && p.Echoed < echoed[i]+200_000 {
				return fmt.Errorf("transfer %d came from %d to %d bytes", i, echoed[i], p.Echoed)
			}
		}
		for i, l := range tr.loops {
			if r := l.Report(); len(r.Failed) == 0 && r.Done < done[i]+20 {
				return fmt.Errorf("loop %d came from %d to %d answers", i, done[i], r.Done)
			}
		}
		return nil
	}))
	for i, s := range tr.streams {
		if p := s.Progress(); p.Err != nil {
			n.t.Errorf("%s: transfer %d: %v", when, i, p.Err)
		}
	}
	for i, l := range tr.loops {
		for _, f := range l.Report().Failed {
			n.t.Errorf("%s: loop %d: %v", when, i, f.Err)
		}
	}
}

// Replies reach the client by conntrack alone: a flow that were forgotten would
// not go on.
const clientTakesNothing = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: client, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: client}}
  ingress:
  - fromEndpoints:
    - matchLabels: {name: nobody}
`

func TestTrafficOutlivesTheAgent(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server")
	serve(t, server, 8080)
	n.write("policy.yaml", clientTakesNothing)
	tr := startTraffic(t, client, server, 8080)
	tr.goesOn(n, "at first")
	for _, binary := range []string{
		"weft-agent",         // the same one
		"weft-agent-progalt", // other programs
		"weft-agent",
		"weft-agent-ctalt", // another layout of conntrack
		"weft-agent",
	} {
		ok(t, n.agent.Kill())
		tr.goesOn(n, "without an agent")
		n.startAgent(binary)
		n.settle()
		tr.goesOn(n, "after "+binary+" came")
	}
}

func TestWorkloadsDeletedWithoutAnAgentLeaveNothing(t *testing.T) {
	n := startNode(t)
	n.write("policy.yaml", clientTakesNothing)
	stays, goes := n.pod("stays"), n.pod("goes")
	ok(t, n.agent.Kill())
	ok(t, os.Remove(filepath.Join(manifestDir, "pod-goes.yaml")))
	ok(t, n.runtime.DelPod(n.ctx, goes))
	n.forget(goes)
	n.startAgent("weft-agent")
	n.settle()
	n.pod("client")
	for dir, want := range map[string]int{"/sys/fs/bpf/weft/links": 4, "/var/lib/weft/endpoints": 2} {
		ok(t, sandbox.Eventually(n.ctx, soon, "only what is left in "+dir, func() error {
			entries, err := os.ReadDir(dir)
			if err == nil && len(entries) != want {
				err = fmt.Errorf("%v", entries)
			}
			return err
		}))
	}
	n.equalsFresh()
	serve(t, stays, 8080)
	onBoth(t, func(t *testing.T, family int) {
		reaches(t, sandbox.Host(), "tcp", addrs(stays)[family], 8080)
	})
}

// equalsFresh fails unless the kernel holds what an agent that finds it empty
// writes there.
func (n *node) equalsFresh() {
	n.t.Helper()
	const pins = "/sys/fs/bpf/weft"
	before, err := datapath.Inspect(pins)
	ok(n.t, err)
	ok(n.t, n.agent.Kill())
	ok(n.t, datapath.Cleanup(pins))
	n.startAgent("weft-agent")
	n.settle()
	fresh, err := datapath.Inspect(pins)
	ok(n.t, err)
	if !reflect.DeepEqual(before, fresh) {
		n.t.Errorf("the kernel held\n%+v\nbut a fresh agent writes\n%+v", before, fresh)
	}
}
