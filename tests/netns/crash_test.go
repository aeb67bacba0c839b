// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

// crashNode is a node with client and server under crashPolicies, and traffic.
func crashNode(t *testing.T) (*node, *traffic) {
	t.Helper()
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server")
	n.write("policy.yaml", crashPolicies)
	return n, n.startTraffic(client, server)
}

// kill ends the agent as a crash does.
func (n *node) kill() {
	n.t.Helper()
	ok(n.t, n.agent.Kill())
}

// TestTrafficOutlivesTheAgent kills the agent again and again, now and then in
// the middle of its start, under traffic of every kind.
func TestTrafficOutlivesTheAgent(t *testing.T) {
	n, tr := crashNode(t)
	before := kernelState(t)
	period := 6 * time.Second
	if level.Long() {
		period = time.Minute
	}
	random := rand.New(rand.NewPCG(level.Seed(), 0))
	end, kills := time.Now().Add(period), 0
	for kills < 3 || time.Now().Before(end) {
		n.kill()
		tr.moves("while the agent is away")
		if kills%2 == 1 {
			n.killDuringStart(random)
		}
		n.startAgent("weft-agent")
		tr.moves("after its return")
		tr.whole("after its return")
		kills++
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("the agent was killed %d times", kills)
	tr.stop("at the end")
	sameState(t, "after the last return", kernelState(t), before)
	sameState(t, "with what a fresh agent writes", before, n.fresh())
}

// killDuringStart starts the agent and kills it before it is ready: at a random
// moment of the first second, when it adopts maps and replaces programs.
func (n *node) killDuringStart(random *rand.Rand) {
	n.t.Helper()
	a, err := sandbox.StartAgent(sandbox.AgentConfig{Binary: filepath.Join(n.bin, "weft-agent"), Config: n.config})
	ok(n.t, err)
	select {
	case <-a.Done():
		n.t.Errorf("the agent ended by itself:\n%s", a.Log())
	case <-time.After(time.Duration(random.Int64N(int64(time.Second)))):
	}
	ok(n.t, a.Kill())
}

// TestTermLetsTrafficGoOn ends the agent as an administrator does.
func TestTermLetsTrafficGoOn(t *testing.T) {
	n, tr := crashNode(t)
	ok(t, n.agent.Stop())
	tr.moves("after SIGTERM")
	n.startAgent("weft-agent")
	tr.moves("after the return")
	tr.stop("after SIGTERM and return")
}
