// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// 10,000 pods (a tenth in an ordinary run), each of its own kind, are declared, and
// some that were attached have just gone, when the agent is told to end.
func TestAnAgentWithMuchToDoEndsSoon(t *testing.T) {
	n := startNode(t)
	var others strings.Builder
	for i := range level.Scale(10_000) {
		name := "other-" + strconv.Itoa(i)
		others.WriteString("---\n" + podSpec{namespace: "demo", name: name, labels: []string{"app=" + name}}.manifest())
	}
	pods := n.addMany(level.Scale(250))
	n.removeMany(pods)
	before := n.status().GetDesiredRevision()
	ok(t, os.WriteFile(filepath.Join(manifestDir, "others.yaml"), []byte(others.String()), 0o644))
	ok(t, sandbox.Eventually(n.ctx, soon, "the pods to be read", func() error {
		if now := n.status().GetDesiredRevision(); now <= before {
			return fmt.Errorf("revision is still %d", now)
		}
		return nil
	}))
	ok(t, n.agent.Stop())
	n.startAgent("weft-agent")
	n.settle()
}
