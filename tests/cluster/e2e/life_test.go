// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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
	w.namespace("e2e-denied", "")
	w.apply(fmt.Sprintf(denyAll, "e2e-denied"))
	p := &pod{namespace: "e2e-denied", name: "alone", node: 2, labels: "app: alone", more: `
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}`}
	other := &pod{namespace: "e2e-denied", name: "other", node: 1, labels: "app: other"}
	w.make(p, other)
	w.eventually(settle, "isolated", func() error { return w.isolated(other, p.ipv4, 8080) })
	if out, err := w.exec(p, "echo from inside"); err != nil || out != "from inside\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	if err := wants(w.kubectl("logs -n e2e-denied alone"), "8080"); err != nil {
		t.Errorf("logs: %v", err)
	}
	if body := w.forward(p, 8080, "/echo?msg=forwarded"); body != "forwarded" {
		t.Errorf("port-forward: %q", body)
	}
	// Several probes more, and none that failed.
	w.holds(4*time.Second, "ready", func() error {
		out := w.kubectl("get pod alone -n e2e-denied -o jsonpath={.status.conditions[?(@.type=='Ready')].status},{.status.containerStatuses[0].restartCount}")
		if out != "True,0" {
			return fmt.Errorf("ready, restarts: %s", out)
		}
		return nil
	})
}

// forward asks a pod through kubectl port-forward.
func (w *world) forward(p *pod, port int, path string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", fmt.Sprintf("exec kubectl port-forward -n %s pod/%s :%d", p.namespace, p.name, port))
	cmd.Env = w.Env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	if err != nil {
		w.t.Fatalf("kubectl port-forward: %v", err)
	}
	var local int
	if _, err := fmt.Sscanf(string(line[:n]), "Forwarding from 127.0.0.1:%d", &local); err != nil {
		w.t.Fatalf("kubectl port-forward says %q: %v", line[:n], err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", local, path), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body := make([]byte, 200)
	n, _ = answer.Body.Read(body)
	return string(body[:n])
}

// waits is nil if the pod is pending and an event of it says why.
func (w *world) waits(p *pod, parts ...string) error {
	out := w.kubectl(fmt.Sprintf("get pod %s -n %s -o jsonpath={.status.phase}", p.name, p.namespace))
	if out != "Pending" {
		return fmt.Errorf("pod %s is %s", p.name, out)
	}
	return wants(w.kubectl(fmt.Sprintf("get events -n %s --field-selector=involvedObject.name=%s,type=Warning", p.namespace, p.name)), parts...)
}

func TestPodsWaitForTheAgent(t *testing.T) {
	w := installed(t)
	w.namespace("e2e-waiting", "")
	back := w.agentAway(2)
	p := &pod{namespace: "e2e-waiting", name: "patient", node: 2, labels: "app: patient"}
	w.apply(w.manifest(p))
	w.eventually(30*time.Second, "waiting", func() error {
		return w.waits(p, "FailedCreatePodSandBox", "the weft agent does not answer on /run/weft/cni.sock", "is weft-agent running?")
	})
	back()
	w.ready(p)
	w.settled()
}

func TestPodsWithNewLabelsWaitForTheOperator(t *testing.T) {
	w := installed(t)
	w.namespace("e2e-unknown", "")
	known := &pod{namespace: "e2e-unknown", name: "known", node: 1, labels: "app: known"}
	w.make(known)
	back := w.operatorAway()
	again := &pod{namespace: "e2e-unknown", name: "again", node: 2, labels: "app: known"}
	w.make(again)
	p := &pod{namespace: "e2e-unknown", name: "new", node: 1, labels: "app: new"}
	w.apply(w.manifest(p))
	w.eventually(60*time.Second, "waiting", func() error { return w.waits(p, "FailedCreatePodSandBox", "identity") })
	back()
	w.ready(p)
	if err := w.connects(known, p.ipv4, 8080); err != nil {
		t.Error(err)
	}
	w.settled()
}

const taint = "weftmesh.io/agent-not-ready"

func TestANewNodeIsTaintedUntilItsDatapathIsProven(t *testing.T) {
	w := installed(t)
	w.kubectl("cordon n1") // what is not bound to a node may go to the new one only
	w.kubectl("cordon n2")
	t.Cleanup(func() { w.must("uncordon", "n1", "n2") })
	w.namespace("e2e-new", "")
	w.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: first, namespace: e2e-new, labels: {app: first}}\n" +
		"spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: registry.k8s.io/e2e-test-images/agnhost:2.66.1}]}\n")
	n, err := w.AddNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		if err := w.RemoveNode(ctx, n); err != nil {
			t.Error(err)
		}
	})
	// The pod is bound after the taint is gone, and the taint after the agent's word.
	w.kubectl("wait --for=condition=Ready pod/first -n e2e-new --timeout=90s")
	if out := w.kubectl("get node " + n.Name() + " -o jsonpath={.spec.taints[*].key}"); strings.Contains(out, taint) {
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
	w.t.Helper()
	out, err := w.Kubectl(w.t.Context(), append(strings.Fields(what), path)...)
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, out)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return at
}

// streams are all ways in which a pod calls another.
func streams(name string, p *pod) []string {
	return []string{name + "-tcp4=stream," + p.ipv4 + ":7000", name + "-tcp6=stream,[" + p.ipv6 + "]:7000",
		name + "-requests=request," + p.ipv4 + ":7000", name + "-udp4=datagram," + p.ipv4 + ":7000", name + "-udp6=datagram,[" + p.ipv6 + "]:7000"}
}

func TestAKilledAgentLosesNoPacket(t *testing.T) {
	w := installed(t)
	w.namespace("e2e-killed", "")
	near, far := w.echo("e2e-killed", "near", 1, "app: near"), w.echo("e2e-killed", "far", 2, "app: far")
	w.make(near, far)
	caller := w.caller("e2e-killed", "caller", 1, append(streams("near", near), streams("far", far)...)...)
	w.flowing(caller, 20)
	for _, n := range []int{1, 2} {
		old := w.killAgent(n)
		w.eventually(90*time.Second, "back", func() error {
			if now := w.agentPID(n); now == "" || now == old {
				return fmt.Errorf("the agent of node %d is process %q, and was %q", n, now, old)
			}
			return nil
		})
	}
	w.settled()
	w.flowing(caller, 20)
	w.nothingLost(caller)
}

func TestAnOutageOfTheAPIServerIsNotNoticed(t *testing.T) {
	w := installed(t)
	w.namespace("e2e-outage", "")
	far := w.echo("e2e-outage", "far", 2, "app: far")
	shut := &pod{namespace: "e2e-outage", name: "shut", node: 2, labels: "app: shut"}
	w.make(far, shut)
	w.apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: shut, namespace: e2e-outage}\n" +
		"spec: {podSelector: {matchLabels: {app: shut}}, policyTypes: [Ingress]}\n")
	caller := w.caller("e2e-outage", "caller", 1, append(streams("far", far), "shut=request,"+shut.ipv4+":8080")...)
	w.eventually(settle, "isolated", func() error { return w.isolated(caller, shut.ipv4, 8080) })
	maps := "ls -lR /sys/fs/bpf/weft | grep -v ^total | tr -s ' ' | cut -d' ' -f1,3-4,9-"
	pins := w.node(1, maps)
	before := w.ask(caller, "counts")
	if err := w.SignalControlPlane("kube-apiserver", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := func() { _ = w.SignalControlPlane("kube-apiserver", syscall.SIGCONT) }
	t.Cleanup(resume)
	began := time.Now()
	old := w.killAgent(1)
	w.eventually(60*time.Second, "back", func() error {
		if now := w.agentPID(1); now == "" || now == old {
			return fmt.Errorf("the agent is process %q, and was %q", now, old)
		}
		return nil
	})
	w.holds(max(0, 20*time.Second-time.Since(began)), "as it was", func() error {
		return w.samePins(pins, w.node(1, maps))
	})
	during := w.ask(caller, "counts")
	resume()
	for name, c := range during {
		if got := c.Answered - before[name].Answered; (name == "shut") != (got == 0) {
			t.Errorf("%s: %d answers in the outage", name, got)
		}
	}
	w.eventually(30*time.Second, "an API server again", func() error { _, err := w.Kubectl(t.Context(), "get", "nodes"); return err })
	w.settled()
	// Those that are to be kept out have failed, as they must.
	all := w.ask(caller, "stop")
	for name, c := range all {
		if name != "shut" && (c.Failed != 0 || c.lost() != 0) {
			t.Errorf("%s: of %d sent %d were lost: %v", name, c.Sent, c.lost(), c.Errors)
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
		if !strings.HasPrefix(device, "wf") || w.node(1, "ls -d /sys/class/net/"+device+" 2>/dev/null; true") != "" {
			return fmt.Errorf("gone from the pins: %s", line)
		}
	}
	return nil
}
