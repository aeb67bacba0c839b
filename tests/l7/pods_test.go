// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// The UIDs of pods with an Envoy.
const (
	firstUID  = "00000000-0000-4000-8000-000000000001"
	secondUID = "00000000-0000-4000-8000-000000000002"
	thirdUID  = "00000000-0000-4000-8000-000000000003"
)

// newScene is a pod that may GET /a of a server, and an agent for the Envoys between them.
func newScene(t *testing.T) (a, server *pod, ag *agent) {
	t.Helper()
	n := newNode(t)
	a, server = n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	server.policy(rule(model.Ingress, alice, 1))
	ag = n.agent()
	return a, server, ag
}

// checks that requests are decided, on connections of their own.
func checks(t *testing.T, from, server *pod, when string) {
	t.Helper()
	for family := range 2 {
		for path, want := range map[string]int{"/a": http.StatusOK, "/b": http.StatusForbidden} {
			got, text, err := get(client(t, from.ns), "http://"+server.at(family, 80)+path)
			if err != nil || got != want {
				t.Errorf("%s, %s by family %d: %d %q, %v; want %d", when, path, family, got, text, err, want)
			}
		}
	}
}

// One after the other is replaced, under load: the next one takes new connections, the
// one before has clients leave, and its block of ports is free again.
func TestEnvoysInPodsAreReplacedWithoutAFailedRequest(t *testing.T) {
	a, server, ag := newScene(t)
	now := ag.envoyPod(firstUID)
	now.ready()
	checks(t, a, server, "with the first one")
	load := startLoad(t, a.ns, server)
	for i, uid := range []string{secondUID, thirdUID} {
		next := ag.envoyPod(uid)
		next.ready()
		if block, err := ag.dp.PreferredBlock(); err != nil || block != uint8(1-i) {
			t.Errorf("block %d is preferred, %v; want %d", block, err, 1-i)
		}
		seen := next.connections()
		ok(t, sandbox.Eventually(t.Context(), soon, "new connections go to the newest", func() error {
			if now := next.connections(); now < seen+10 {
				return fmt.Errorf("it has had %d", now)
			}
			return nil
		}))
		t.Logf("the one before has ended after %v", now.end().Round(time.Millisecond))
		now = next
	}
	load.stop(t)
	checks(t, a, server, "with the third one")
	if got := a.drops(); len(got) > 0 {
		t.Errorf("dropped were %v", got)
	}
}

// One that was started last, and is taken away again, leaves to the one before.
func TestTheNewestEnvoyMayGoAgain(t *testing.T) {
	a, server, ag := newScene(t)
	first := ag.envoyPod(firstUID)
	first.ready()
	second := ag.envoyPod(secondUID)
	second.ready()
	load := startLoad(t, a.ns, server)
	for second.connections() < 10 {
		time.Sleep(10 * time.Millisecond)
	}
	seen := first.connections()
	t.Logf("it has ended after %v", second.end().Round(time.Millisecond))
	if block, err := ag.dp.PreferredBlock(); err != nil || block != 0 {
		t.Errorf("block %d is preferred, %v", block, err)
	}
	ok(t, sandbox.Eventually(t.Context(), soon, "new connections go to the first", func() error {
		if now := first.connections(); now < seen+10 {
			return fmt.Errorf("it has had %d, and %d before", now, seen)
		}
		return nil
	}))
	load.stop(t)
}

// While two are there the agent may go and come: nothing changes, and who was preferred
// stays so, whoever calls first.
func TestAnAgentMayComeAndGoBetweenTwoEnvoys(t *testing.T) {
	a, server, ag := newScene(t)
	first := ag.envoyPod(firstUID)
	first.ready()
	second := ag.envoyPod(secondUID)
	second.ready()
	load := startLoad(t, a.ns, server)
	for range 2 {
		ag.stop()
		checks(t, a, server, "without an agent")
		ag.start()
		ok(t, sandbox.Eventually(t.Context(), soon, "both Envoys call again", func() error {
			if block, err := ag.dp.PreferredBlock(); err != nil || block != 1 {
				t.Fatalf("block %d is preferred, %v", block, err)
			}
			if got := len(ag.server.Sessions()); got != 2 {
				return fmt.Errorf("%d have called", got)
			}
			return nil
		}))
	}
	first.end()
	load.stop(t)
	checks(t, a, server, "with the second one")
}

// An Envoy that is killed comes back in its pod, also when no agent is there. One of a
// pod that the kernel has never heard of has to wait for the agent.
func TestAnEnvoyComesBackInItsPod(t *testing.T) {
	a, server, ag := newScene(t)
	first := ag.envoyPod(firstUID)
	first.ready()
	for _, away := range []bool{false, true} {
		if away {
			ag.stop()
		}
		killed := time.Now()
		first.killEnvoy()
		ok(t, sandbox.Eventually(t.Context(), soon, "requests pass again", func() error {
			_, _, err := get(client(t, a.ns), "http://"+server.at(0, 80)+"/a")
			return err
		}))
		t.Logf("agent away: %v: requests pass again after %v", away, time.Since(killed).Round(time.Millisecond))
		checks(t, a, server, "after Envoy was killed")
	}
	second := ag.envoyPod(secondUID)
	ok(t, sandbox.Eventually(t.Context(), soon, "the second one has a configuration", func() error {
		_, err := second.admin("/ready")
		return err
	}))
	if err := supervise.Health(t.Context(), second.dir); !errors.Is(err, supervise.ErrNotTold) {
		t.Errorf("without an agent the second one says of itself: %v", err)
	}
	checks(t, a, server, "with a second one that nobody knows")
	ag.start()
	second.ready()
	first.end()
	checks(t, a, server, "with the second one")
}

// Who is in no Envoy's group gets nothing of what is theirs, and each but its own.
func TestABlockOfPortsIsItsGroupsAlone(t *testing.T) {
	a, server, ag := newScene(t)
	first := ag.envoyPod(firstUID)
	first.ready()
	last := [model.ProxyBlocks]int{model.FirstProxyPort + model.MaxRulesets - 1, model.LastProxyPort}
	check := func(who string, may [model.ProxyBlocks]bool) {
		t.Helper()
		for _, addr := range []string{"127.0.0.1", "::1"} {
			for block, port := range last {
				ln, err := a.node.ns.Listen("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
				if err == nil {
					_ = ln.Close()
				}
				if may[block] != (err == nil) || err != nil && !errors.Is(err, os.ErrPermission) {
					t.Errorf("%s, listening in block %d: %v, want that it may: %v", who, block, err, may[block])
				}
			}
		}
	}
	check("a stranger", [model.ProxyBlocks]bool{})
	inGroup(t, first.group, func() { check("one of the first pod's group", [model.ProxyBlocks]bool{true, false}) })
	second := ag.envoyPod(secondUID)
	second.ready()
	check("a stranger", [model.ProxyBlocks]bool{})
	inGroup(t, second.group, func() { check("one of the second pod's group", [model.ProxyBlocks]bool{false, true}) })
	for family := range 2 {
		conn, err := pretend(a.node, a.addrs[family].AsSlice(), server.at(family, 80), model.ProxyMark(1))
		if err != nil {
			continue // who is answered is the pod
		}
		if got := request(t, conn, "/b"); got != "403" {
			t.Errorf("with the proxy's mark, a stranger got %s", got)
		}
		_ = conn.Close()
	}
	checks(t, a, server, "after all that")
}

// inGroup does f as a process of a control group.
func inGroup(t *testing.T, group string, f func()) {
	t.Helper()
	move := func(to string) {
		t.Helper()
		ok(t, os.WriteFile(to+"/cgroup.procs", []byte(fmt.Sprint(os.Getpid())), 0))
	}
	move(group)
	defer move(cgroupMount(t))
	f()
}

// killEnvoy ends Envoy itself as a crash would.
func (e *envoyPod) killEnvoy() {
	e.Helper()
	pid, err := sandbox.PIDIn(e.dir + "/envoy.pid")
	ok(e, err)
	ok(e, syscall.Kill(pid, syscall.SIGKILL))
}
