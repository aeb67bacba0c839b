// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// red runs a connectivity test that must fail. Each of the lists is for one check that
// failed: its line, or those below, must say every part.
func (w *world) red(tests string, want ...[]string) {
	w.T.Helper()
	begun := time.Now()
	out, status := w.exit("weft connectivity test --ready 15s --test " + tests)
	w.T.Logf("red: %.1f s", time.Since(begun).Seconds())
	if status != 1 {
		w.T.Errorf("exit status %d, not 1:\n%s", status, out)
	}
	for _, parts := range want {
		if !told(out, parts) {
			w.T.Errorf("no failed check says all of %q:\n%s", parts, out)
		}
	}
}

// told finds a failed check that has every part.
func told(out string, parts []string) bool {
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		if !strings.HasSuffix(line, "FAILED") {
			continue
		}
		all := line
		for _, more := range lines[i+1:] {
			if !strings.HasPrefix(more, "    ") {
				break
			}
			all += "\n" + more
		}
		if framework.Wants(all, parts...) == nil {
			return true
		}
	}
	return false
}

// green runs the same again, mended.
func (w *world) green(tests string) {
	w.T.Helper()
	if out := w.Shell("weft connectivity test --test " + tests); !strings.Contains(out, " 0 failed, ") {
		w.T.Errorf("not green again:\n%s", out)
	}
}

func TestRedWhenTheDNSIsAway(t *testing.T) {
	w := installed(t)
	w.Kubectl("scale deployment/coredns -n kube-system --replicas=0")
	w.Kubectl("wait --for=delete pod -l k8s-app=kube-dns -n kube-system --timeout=60s")
	w.red("dns", []string{"dns ", "client asks for echo.weft-test (IPv4, IPv6)", "expected: the addresses 10.96."})
	w.Kubectl("scale deployment/coredns -n kube-system --replicas=1")
	w.Kubectl("rollout status deployment/coredns -n kube-system --timeout=60s")
	w.green("dns")
}

func TestRedWhenAPolicyForbids(t *testing.T) {
	w := installed(t)
	w.Apply(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftClusterNetworkPolicy
metadata: {name: e2e-forbids}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingressDeny: [{fromEndpoints: [{matchLabels: {role: stranger}}]}]
  enableDefaultDeny: {ingress: false}
`)
	t.Cleanup(func() { w.Drop("weftclusternetworkpolicy e2e-forbids") })
	w.red("service", []string{"service ", "stranger to echo by name", "expected: an answer from weft-test/server-",
		"hint: ", "WeftClusterNetworkPolicy e2e-forbids ingressDeny[0]"})
	w.Drop("weftclusternetworkpolicy e2e-forbids")
	w.green("service")
}

func TestRedWhenSomebodyRoutesANodesPodsAway(t *testing.T) {
	w := installed(t)
	// By a rule that goes before the routes of Weft, which it cannot mend.
	mend := w.RouteAway(1, strings.Fields(w.Kubectl("get weftnode n2 -o jsonpath={.spec.podCIDRs[*]}"))...)
	w.red("pod-to-pod", []string{"pod-to-pod ", "client to server-far (IPv4 TCP, IPv4 UDP, IPv6 TCP, IPv6 UDP)", "expected: an answer from weft-test/server-far"})
	mend()
	w.green("pod-to-pod")
}

func TestRedWhenANodesAgentStaysAway(t *testing.T) {
	w := installed(t)
	back := w.AgentAway(2)
	w.red("pod-to-pod", []string{"setup ", "Weft is ready", "happened: node n2: it has no pod of the agent", "hint:     weft status"})
	back()
	w.Settled()
	w.green("pod-to-pod")
}

func TestRedWhenNobodyNumbersLabels(t *testing.T) {
	w := installed(t)
	back := w.operatorAway()
	// Labels that had a number once have it still.
	w.Kubectl("delete weftidentities --all")
	w.red("pod-to-pod",
		[]string{"setup ", "Weft is ready", "happened: no operator leads"},
		[]string{"setup ", "pod weft-test/server-near on node n1 is ready", "expected: it is ready within 15s"})
	back()
	w.Settled()
	w.green("pod-to-pod")
}

// operatorAway ends all operators until back is called, at the latest when the test ends.
func (w *world) operatorAway() (back func()) {
	w.T.Helper()
	back = w.Back(func() { w.Must("scale deployment/weft-operator -n weft-system --replicas=2") })
	w.Kubectl("scale deployment/weft-operator -n weft-system --replicas=0")
	w.Kubectl("wait --for=delete pod -l app.kubernetes.io/name=weft-operator -n weft-system --timeout=60s")
	return back
}

func TestRedWhenANodeDoesNotAnswer(t *testing.T) {
	w := installed(t)
	signal := func(s syscall.Signal) {
		if err := w.Node(2).Signal("kubelet", s); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	mend := w.Back(func() { signal(syscall.SIGCONT) })
	out, status := w.exit("weft status --timeout 3s")
	if status != 1 || framework.Wants(out, "n1 ", "n2 ", "unknown", "no answer") != nil {
		t.Errorf("weft status says of a node that does not answer (%d):\n%s", status, out)
	}
	mend()
	w.Settled()
}
