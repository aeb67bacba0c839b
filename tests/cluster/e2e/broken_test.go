// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// red runs a connectivity test that must fail. Each of the lists is for one check that
// failed: its line, or those below, must say every part.
func (w *world) red(tests string, want ...[]string) {
	w.t.Helper()
	begun := time.Now()
	out, status := w.exit("weft connectivity test --ready 15s --test " + tests)
	w.t.Logf("red: %.1f s", time.Since(begun).Seconds())
	if status != 1 {
		w.t.Errorf("exit status %d, not 1:\n%s", status, out)
	}
	for _, parts := range want {
		if !told(out, parts) {
			w.t.Errorf("no failed check says all of %q:\n%s", parts, out)
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
		if wants(all, parts...) == nil {
			return true
		}
	}
	return false
}

// green runs the same again, mended.
func (w *world) green(tests string) {
	w.t.Helper()
	if out := w.shell("weft connectivity test --test " + tests); !strings.Contains(out, " 0 failed, ") {
		w.t.Errorf("not green again:\n%s", out)
	}
}

func TestRedWhenTheDNSIsAway(t *testing.T) {
	w := installed(t)
	w.kubectl("scale deployment/coredns -n kube-system --replicas=0")
	w.kubectl("wait --for=delete pod -l k8s-app=kube-dns -n kube-system --timeout=60s")
	w.red("dns", []string{"dns ", "client asks for echo.weft-test (IPv4, IPv6)", "expected: the addresses 10.96."})
	w.kubectl("scale deployment/coredns -n kube-system --replicas=1")
	w.kubectl("rollout status deployment/coredns -n kube-system --timeout=60s")
	w.green("dns")
}

func TestRedWhenAPolicyForbids(t *testing.T) {
	w := installed(t)
	w.apply(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftClusterNetworkPolicy
metadata: {name: e2e-forbids}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingressDeny: [{fromEndpoints: [{matchLabels: {role: stranger}}]}]
  enableDefaultDeny: {ingress: false}
`)
	t.Cleanup(func() { w.drop("weftclusternetworkpolicy", "e2e-forbids") })
	w.red("service", []string{"service ", "stranger to echo by name", "expected: an answer from weft-test/server-",
		"hint: ", "WeftClusterNetworkPolicy e2e-forbids ingressDeny[0]"})
	w.drop("weftclusternetworkpolicy", "e2e-forbids")
	w.green("service")
}

func TestRedWhenSomebodyRoutesANodesPodsAway(t *testing.T) {
	w := installed(t)
	// By a rule that goes before the routes of Weft, which it cannot mend.
	undo, err := w.Node(1).RouteAway(strings.Fields(w.kubectl("get weftnode n2 -o jsonpath={.spec.podCIDRs[*]}"))...)
	if err != nil {
		t.Fatal(err)
	}
	mend := sync.OnceFunc(func() {
		if err := undo(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(mend)
	w.red("pod-to-pod", []string{"pod-to-pod ", "client to server-far (IPv4 TCP, IPv4 UDP, IPv6 TCP, IPv6 UDP)", "expected: an answer from weft-test/server-far"})
	mend()
	w.green("pod-to-pod")
}

func TestRedWhenANodesAgentStaysAway(t *testing.T) {
	w := installed(t)
	back := w.agentAway(2)
	w.red("pod-to-pod", []string{"setup ", "Weft is ready", "happened: node n2: it has no pod of the agent", "hint:     weft status"})
	back()
	w.settled()
	w.green("pod-to-pod")
}

func TestRedWhenNobodyNumbersLabels(t *testing.T) {
	w := installed(t)
	back := w.operatorAway()
	// Labels that had a number once have it still.
	w.kubectl("delete weftidentities --all")
	w.red("pod-to-pod",
		[]string{"setup ", "Weft is ready", "happened: no operator leads"},
		[]string{"setup ", "pod weft-test/server-near on node n1 is ready", "expected: it is ready within 15s"})
	back()
	w.settled()
	w.green("pod-to-pod")
}

// operatorAway ends all operators until back is called, at the latest when the test ends.
func (w *world) operatorAway() (back func()) {
	w.t.Helper()
	is := true
	back = func() {
		if is {
			is = false
			w.must("scale", "deployment/weft-operator", "-n", "weft-system", "--replicas=2")
		}
	}
	w.t.Cleanup(back)
	w.kubectl("scale deployment/weft-operator -n weft-system --replicas=0")
	w.kubectl("wait --for=delete pod -l app.kubernetes.io/name=weft-operator -n weft-system --timeout=60s")
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
	mend := sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(mend)
	out, status := w.exit("weft status --timeout 3s")
	if status != 1 || wants(out, "n1 ", "n2 ", "unknown", "no answer") != nil {
		t.Errorf("weft status says of a node that does not answer (%d):\n%s", status, out)
	}
	mend()
	w.settled()
}
