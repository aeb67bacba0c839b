// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

// goesOn is how long traffic goes on in each state, at least.
func goesOn() time.Duration {
	if level.Long() {
		return time.Minute
	}
	return 3 * time.Second
}

// Agents and Envoys are replaced, agents are killed, and the API server is away. No
// request fails: not on connections that are kept, not on new ones.
func TestNobodyNoticesThatAgentsAndEnvoysAreReplaced(t *testing.T) {
	w := installed(t)
	l := w.loaded("l7-replace")
	l.nothingFailed("at first")

	old := w.proxyPods()
	w.must("patch", proxies, "-n", "weft-system", "--type=merge", "-p",
		`{"spec":{"template":{"metadata":{"annotations":{"l7/again":"`+fmt.Sprint(time.Now().Unix())+`"}}}}}`)
	w.rolledOut(proxies)
	w.eventually(90*time.Second, "without the old Envoys", func() error {
		now := w.proxyPods()
		for node, pod := range old {
			if strings.Contains(now[node], pod) {
				return fmt.Errorf("on %s there are %s", node, now[node])
			}
		}
		return nil
	})
	l.goesOn("with Envoys replaced")

	for n := range w.Nodes() {
		w.dies(n+1, "weft-agent")
	}
	l.goesOn("with agents killed")

	w.must("rollout", "restart", agents, "-n", "weft-system")
	w.rolledOut(agents)
	l.goesOn("with agents replaced")

	if err := w.SignalControlPlane("kube-apiserver", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	back := func() error { return w.SignalControlPlane("kube-apiserver", syscall.SIGCONT) }
	t.Cleanup(func() { _ = back() })
	l.goesOn("with the API server hanging")
	w.dies(1, "weft-agent")
	l.goesOn("and an agent killed meanwhile")
	if err := back(); err != nil {
		t.Fatal(err)
	}
	w.shell("weft status --wait --timeout 120s")
	l.goesOn("with the API server back")
}

// goesOn lets traffic go on for a while; nothing may have failed.
func (l *load) goesOn(state string) {
	l.t.Helper()
	for until := time.Now().Add(goesOn()); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
		l.ask("counts")
	}
	l.nothingFailed(state)
}

// proxyPods are the Envoys' pods that are there, by node.
func (w *world) proxyPods() map[string]string {
	w.t.Helper()
	out := make(map[string]string)
	lines := w.kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-envoy -o jsonpath={range.items[*]}{.spec.nodeName}={.metadata.name}{'\\n'}{end}")
	for line := range strings.Lines(lines) {
		node, pod, _ := strings.Cut(strings.TrimSpace(line), "=")
		out[node] += pod + " "
	}
	return out
}

// processes of a name on a node.
func (w *world) processes(n int, name string) []string {
	w.t.Helper()
	out := w.node(n, `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != `+name+` ] || echo ${p#/proc/}; done`)
	return strings.Fields(out)
}

// dies kills a node's only process of a name, and waits until another is there.
func (w *world) dies(n int, name string) {
	w.t.Helper()
	old := w.processes(n, name)
	if len(old) != 1 {
		w.t.Fatalf("of %s on node %d there are %v", name, n, old)
	}
	w.node(n, "kill -9 "+old[0])
	w.eventually(60*time.Second, "back: "+name, func() error {
		if now := w.processes(n, name); len(now) != 1 || now[0] == old[0] {
			return errors.New("there are " + strings.Join(now, " "))
		}
		return nil
	})
}
