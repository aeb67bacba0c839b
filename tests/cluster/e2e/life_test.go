// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

// denyAll isolates every pod of a namespace in both directions.
const denyAll = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: %s}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
`

func TestKubernetesWorksUnderDenyAll(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-denied", "")
	w.Apply(fmt.Sprintf(denyAll, "e2e-denied"))
	p := &pod{Namespace: "e2e-denied", Name: "alone", Node: 2, Labels: "app: alone", Container: `
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}`}
	other := &pod{Namespace: "e2e-denied", Name: "other", Node: 1, Labels: "app: other"}
	w.Make(p, other)
	w.Eventually(settle, "isolated", func() error { return w.Isolated(other, p.IPv4, 8080) })
	if out, err := w.Exec(p, "echo from inside"); err != nil || out != "from inside\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	if err := framework.Wants(w.Kubectl("logs -n e2e-denied alone"), "8080"); err != nil {
		t.Errorf("logs: %v", err)
	}
	if body := w.forward(p, 8080, "/echo?msg=forwarded"); body != "forwarded" {
		t.Errorf("port-forward: %q", body)
	}
	// Several probes more, and none that failed.
	w.Holds(4*time.Second, "ready", func() error {
		out := w.Kubectl("get pod alone -n e2e-denied -o jsonpath={.status.conditions[?(@.type=='Ready')].status},{.status.containerStatuses[0].restartCount}")
		if out != "True,0" {
			return fmt.Errorf("ready, restarts: %s", out)
		}
		return nil
	})
}

// forward asks a pod through kubectl port-forward.
func (w *world) forward(p *pod, port int, path string) string {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(w.T.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", fmt.Sprintf("exec kubectl port-forward -n %s pod/%s :%d", p.Namespace, p.Name, port))
	cmd.Env = w.Env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.T.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.T.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		w.T.Fatalf("kubectl port-forward: %v", err)
	}
	var local int
	if _, err := fmt.Sscanf(string(line[:n]), "Forwarding from 127.0.0.1:%d", &local); err != nil {
		w.T.Fatalf("kubectl port-forward says %q: %v", line[:n], err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", local, path), nil)
	if err != nil {
		w.T.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.T.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body := make([]byte, 200)
	n, _ = answer.Body.Read(body)
	return string(body[:n])
}

// waits is nil if the pod is pending and an event of it says why.
func (w *world) waits(p *pod, parts ...string) error {
	out := w.Kubectl(fmt.Sprintf("get pod %s -n %s -o jsonpath={.status.phase}", p.Name, p.Namespace))
	if out != "Pending" {
		return fmt.Errorf("pod %s is %s", p.Name, out)
	}
	return framework.Wants(w.Kubectl(fmt.Sprintf("get events -n %s --field-selector=involvedObject.name=%s,type=Warning", p.Namespace, p.Name)), parts...)
}

func TestPodsWaitForTheAgent(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-waiting", "")
	back := w.AgentAway(2)
	p := &pod{Namespace: "e2e-waiting", Name: "patient", Node: 2, Labels: "app: patient"}
	w.Apply(w.Manifest(p))
	w.Eventually(30*time.Second, "waiting", func() error {
		return w.waits(p, "FailedCreatePodSandBox", "the weft agent does not answer on /run/weft/cni.sock", "is weft-agent running?")
	})
	back()
	w.Ready(p)
	w.Settled()
}

func TestPodsWithNewLabelsWaitForTheOperator(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-unknown", "")
	known := &pod{Namespace: "e2e-unknown", Name: "known", Node: 1, Labels: "app: known"}
	w.Make(known)
	back := w.operatorAway()
	again := &pod{Namespace: "e2e-unknown", Name: "again", Node: 2, Labels: "app: known"}
	w.Make(again)
	p := &pod{Namespace: "e2e-unknown", Name: "new", Node: 1, Labels: "app: new"}
	w.Apply(w.Manifest(p))
	w.Eventually(60*time.Second, "waiting", func() error { return w.waits(p, "FailedCreatePodSandBox", "identity") })
	back()
	w.Ready(p)
	if err := w.Connects(known, p.IPv4, 8080); err != nil {
		t.Error(err)
	}
	w.Settled()
}

const taint = "weftmesh.io/agent-not-ready"

func TestANewNodeIsTaintedUntilItsDatapathIsProven(t *testing.T) {
	w := installed(t)
	w.Kubectl("cordon n1") // what is not bound to a node may go to the new one only
	w.Kubectl("cordon n2")
	t.Cleanup(func() { w.Must("uncordon n1 n2") })
	w.Namespace("e2e-new", "")
	w.Apply("apiVersion: v1\nkind: Pod\nmetadata: {name: first, namespace: e2e-new, labels: {app: first}}\n" +
		"spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: registry.k8s.io/e2e-test-images/agnhost:2.66.1}]}\n")
	n, err := w.AddNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Finally(func(ctx context.Context) error { return w.RemoveNode(ctx, n) })
	// The pod is bound after the taint is gone, and the taint after the agent's word.
	w.Kubectl("wait --for=condition=Ready pod/first -n e2e-new --timeout=90s")
	if out := w.Kubectl("get node " + n.Name() + " -o jsonpath={.spec.taints[*].key}"); strings.Contains(out, taint) {
		t.Errorf("its taints are %s", out)
	}
	proven := w.moment("get weftnode "+n.Name()+" -o", `jsonpath={.status.conditions[?(@.type=="Ready")].lastTransitionTime}`)
	bound := w.moment("get pod first -n e2e-new -o", `jsonpath={.status.conditions[?(@.type=="PodScheduled")].lastTransitionTime}`)
	if bound.Before(proven) {
		t.Errorf("a pod was bound at %v, before the datapath was proven at %v", bound, proven)
	}
}

// moment reads a time of an object.
func (w *world) moment(what, path string) time.Time {
	w.T.Helper()
	at, err := time.Parse(time.RFC3339, w.Kubectl(what, path))
	if err != nil {
		w.T.Fatalf("%s: %v", what, err)
	}
	return at
}

func TestAKilledAgentLosesNoPacket(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-killed", "")
	near, far := echo("e2e-killed", "near", 1, "app: near"), echo("e2e-killed", "far", 2, "app: far")
	w.Make(near, far)
	caller := w.caller("e2e-killed", "caller", 1, append(streams("near", near), streams("far", far)...)...)
	w.Flowing(settle, caller, 20)
	for _, n := range []int{1, 2} {
		w.Dies(n, "weft-agent", 90*time.Second)
	}
	w.Settled()
	w.Flowing(settle, caller, 20)
	w.nothingLost(caller)
}

func TestAnOutageOfTheAPIServerIsNotNoticed(t *testing.T) {
	w := installed(t)
	w.Namespace("e2e-outage", "")
	far := echo("e2e-outage", "far", 2, "app: far")
	shut := &pod{Namespace: "e2e-outage", Name: "shut", Node: 2, Labels: "app: shut"}
	w.Make(far, shut)
	w.Apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: e2e-outage}\n" +
		"spec: {podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress]}\n")
	caller := w.caller("e2e-outage", "caller", 1, append(streams("far", far), "shut=request,"+shut.IPv4+":8080")...)
	w.Eventually(settle, "isolated", func() error { return w.Isolated(caller, shut.IPv4, 8080) })
	maps := "ls -lR /sys/fs/bpf/weft | grep -v ^total | tr -s ' ' | cut -d' ' -f1,3-4,9-"
	pins := w.On(1, maps)
	before := w.Counts(caller, "counts")
	back := w.HangAPIServer()
	began := time.Now()
	w.Dies(1, "weft-agent", 60*time.Second)
	w.Holds(max(0, 20*time.Second-time.Since(began)), "as it was", func() error {
		return w.samePins(pins, w.On(1, maps))
	})
	during := w.Counts(caller, "counts")
	back()
	for name, c := range during {
		if got := c.Answered - before[name].Answered; (name == "shut") != (got == 0) {
			t.Errorf("%s: %d answers in the outage", name, got)
		}
	}
	w.Eventually(30*time.Second, "an API server again", func() error { _, err := w.Cluster.Kubectl(t.Context(), "get", "nodes"); return err })
	w.Settled()
	// Those that are to be kept out have failed, as they must.
	all := w.Counts(caller, "stop")
	for name, c := range all {
		if name != "shut" && (c.Failed != 0 || c.Lost() != 0) {
			t.Errorf("%s: of %d sent %d were lost: %v", name, c.Sent, c.Lost(), c.Errors)
		}
	}
}

// samePins tells what of the first node's pins has come or gone. Those of a device that
// is gone, of a pod that was on its way out, may go.
func (w *world) samePins(before, now string) error {
	had, have := strings.Split(before, "\n"), strings.Split(now, "\n")
	for _, line := range have {
		if !slices.Contains(had, line) {
			return fmt.Errorf("new among the pins: %s", line)
		}
	}
	for _, line := range had {
		if slices.Contains(have, line) {
			continue
		}
		name := line[strings.LastIndexByte(line, ' ')+1:]
		device, _, _ := strings.Cut(name, "_")
		if !strings.HasPrefix(device, "wf") || w.On(1, "ls -d /sys/class/net/"+device+" 2>/dev/null; true") != "" {
			return fmt.Errorf("gone from the pins: %s", line)
		}
	}
	return nil
}
