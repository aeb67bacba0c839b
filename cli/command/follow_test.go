// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// following is an observe --follow under way, whose output is read by lines.
type following struct {
	stdout, stderr *bufio.Reader
	interrupt      func()
	done           chan result
}

func startFollowing(t *testing.T, socket string, args ...string) *following {
	t.Helper()
	return startFollowingIn(t, Env{}, socket, args...)
}

func startFollowingIn(t *testing.T, env Env, socket string, args ...string) *following {
	t.Helper()
	ctx, interrupt := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(interrupt)
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	f := &following{stdout: bufio.NewReader(outR), stderr: bufio.NewReader(errR), interrupt: interrupt, done: make(chan result, 1)}
	go func() {
		env.Stdout, env.Stderr = outW, errW
		got := runIn(t, ctx, env, socket, append([]string{"observe", "-f"}, args...)...)
		outW.Close()
		errW.Close()
		f.done <- got
	}()
	return f
}

// expect reads one line.
func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, want) {
		t.Fatalf("got %q, %v; want %q", line, err, want)
	}
}

// ends interrupts; nothing may be left to read.
func (f *following) ends(t *testing.T) {
	t.Helper()
	f.interrupt()
	for _, r := range []*bufio.Reader{f.stdout, f.stderr} {
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("left to read: %q, %v", rest, err)
		}
	}
	if got := <-f.done; got.code != ExitOK {
		t.Errorf("exit %d", got.code)
	}
}

// The agent that comes back holds flows that were shown and one that was not.
func TestFollowOutlastsARestart(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := serveAt(t, socket, &agent{flows: story()})
	f := startFollowing(t, socket, "--last", "2")
	expect(t, f.stdout, "demo/client:40002")
	expect(t, f.stdout, "ENDED")
	stop()
	expect(t, f.stderr, "the agent went away; waiting for it at "+socket)

	fresh := story()[0]
	fresh.Time = timestamppb.New(now().Add(-time.Second))
	fresh.Source.Port = 40003
	stop = serveAt(t, socket, &agent{flows: append(story(), fresh)})
	expect(t, f.stderr, "the agent is back; flows in between may be missing")
	expect(t, f.stdout, "demo/client:40003")

	stop() // it says so each time
	expect(t, f.stderr, "the agent went away")
	serveAt(t, socket, &agent{flows: append(story(), fresh)})
	expect(t, f.stderr, "the agent is back")
	f.ends(t)
}

func TestFollowEndsWithCtrlCWhileItWaits(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	stop := serveAt(t, socket, &agent{flows: story()})
	f := startFollowing(t, socket, "--last", "1")
	expect(t, f.stdout, "ENDED")
	stop()
	expect(t, f.stderr, "the agent went away")
	f.ends(t)
}

func TestFollowGoesOnWhenTheAgentEndsTheStream(t *testing.T) {
	f := startFollowing(t, serve(t, &lossy{}))
	expect(t, f.stderr, "12 flows were lost")
	expect(t, f.stderr, "the agent went away")
	expect(t, f.stderr, "the agent is back")
	expect(t, f.stderr, "12 flows were lost")
	f.interrupt()
	io.Copy(io.Discard, f.stderr) //nolint:errcheck // it may have gone away again
	if got := <-f.done; got.code != ExitOK {
		t.Errorf("exit %d", got.code)
	}
}

func TestWhereFollowingGoesOn(t *testing.T) {
	begun := now().Add(-time.Hour)
	for name, c := range map[string]struct{ last, want time.Time }{
		"after the last flow":              {now().Add(-time.Minute), now().Add(-time.Minute + 1)},
		"where it began if there was none": {time.Time{}, begun},
		"now if the clock was set back":    {now().Add(time.Minute), now()},
	} {
		f := follower{app: &app{env: Env{Now: now}}, last: c.last,
			req: &agentv1.ObserveFlowsRequest{Last: 5, Since: timestamppb.New(begun)}}
		f.resume()
		if got := f.req.GetSince().AsTime(); !got.Equal(c.want) || f.req.GetLast() != 0 {
			t.Errorf("%s: since %v, last %d; want %v, 0", name, got, f.req.GetLast(), c.want)
		}
	}
}
