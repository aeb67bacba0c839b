// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

// TestRequestsDoNotNoticeTheAgent, whether it is killed, or replaced by one of another
// release and back: one whose programs differ, and one whose conntrack has another
// layout.
func TestRequestsDoNotNoticeTheAgent(t *testing.T) {
	for _, other := range []string{"weft-agent", "weft-agent-progalt", "weft-agent-ctalt"} {
		t.Run(other, func(t *testing.T) {
			n := newLoaded(t)
			needVariant(t, n.bin, other)
			n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
			n.envoyReady()
			p := n.press()
			before := dropped(t)
			ok(t, n.agent.Kill())
			p.moves("without the agent")
			n.startAgent(other)
			n.envoyReady()
			p.moves("with another agent")
			p.lasts()
			ok(t, n.agent.Stop())
			p.moves("without the other agent")
			n.startAgent("weft-agent")
			n.envoyReady()
			p.moves("with the agent of before")
			p.stop("the agent away, replaced and back")
			n.nothingDropped(before)
		})
	}
}

// TestRequestsDoNotNoticeAnotherEnvoy: another binary in the place of Envoy's takes
// over from the process that runs.
func TestRequestsDoNotNoticeAnotherEnvoy(t *testing.T) {
	envoy, err := sandbox.Envoy()
	ok(t, err)
	n := newLoaded(t)
	// A name of the test's own, to be replaced: the agent is started with it.
	own := filepath.Join(t.TempDir(), "envoy")
	ok(t, os.Symlink(envoy, own))
	n.configure("envoy: {binary: " + own + "}")
	n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
	n.envoyReady()
	p := n.press()
	before, old := dropped(t), envoyPID(t)
	copied := own + "-2"
	copyFile(t, envoy, copied)
	ok(t, os.Symlink(copied, own+".new"))
	ok(t, os.Rename(own+".new", own))
	ok(t, sandbox.Eventually(t.Context(), soon, "another Envoy", func() error {
		if now := envoyPID(t); now == old {
			return fmt.Errorf("it is still %d", now)
		}
		return nil
	}))
	p.moves("while the Envoy before ends")
	p.lasts()
	p.stop("Envoy replaced")
	n.nothingDropped(before)
}

// configure starts the agent again with other settings.
func (n *node) configure(settings string) {
	n.t.Helper()
	ok(n.t, n.agent.Stop())
	text := "nodeName: node-1\nmetricsAddress: \"127.0.0.1:9465\"\n" + settings + "\n"
	ok(n.t, os.WriteFile(n.config, []byte(text), 0o644))
	n.startAgent("weft-agent")
}

// envoyPID is the process that serves. Its supervisor writes it down once it has
// started it.
func envoyPID(t *testing.T) (pid int) {
	t.Helper()
	ok(t, sandbox.Eventually(t.Context(), soon, "Envoy's number is written down", func() (err error) {
		pid, err = sandbox.PIDIn("/run/weft/envoy.pid")
		return err
	}))
	return pid
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	ok(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	ok(t, err)
	_, err = io.Copy(out, in)
	ok(t, errors.Join(err, out.Close()))
}
