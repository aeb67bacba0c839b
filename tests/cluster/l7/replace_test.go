// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"strings"
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
	w.Must("patch "+proxies+" -n weft-system --type=merge -p",
		`{"spec":{"template":{"metadata":{"annotations":{"l7/again":"`+fmt.Sprint(time.Now().Unix())+`"}}}}}`)
	w.rolledOut(proxies)
	w.Eventually(90*time.Second, "without the old Envoys", func() error {
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
		w.Dies(n+1, "weft-agent", 60*time.Second)
	}
	l.goesOn("with agents killed")

	w.Must("rollout restart " + agents + " -n weft-system")
	w.rolledOut(agents)
	l.goesOn("with agents replaced")

	back := w.HangAPIServer()
	l.goesOn("with the API server hanging")
	w.Dies(1, "weft-agent", 60*time.Second)
	l.goesOn("and an agent killed meanwhile")
	back()
	w.Settled()
	l.goesOn("with the API server back")
}

// goesOn lets traffic go on for a while; nothing may have failed.
func (l *load) goesOn(state string) {
	l.T.Helper()
	for until := time.Now().Add(goesOn()); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
		l.Counts(l.caller, "counts")
	}
	l.nothingFailed(state)
}

// proxyPods are the Envoys' pods that are there, by node.
func (w *world) proxyPods() map[string]string {
	w.T.Helper()
	out := make(map[string]string)
	lines := w.Kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-envoy -o jsonpath={range.items[*]}{.spec.nodeName}={.metadata.name}{'\\n'}{end}")
	for line := range strings.Lines(lines) {
		node, pod, _ := strings.Cut(strings.TrimSpace(line), "=")
		out[node] += pod + " "
	}
	return out
}
