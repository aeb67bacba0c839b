// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// pod is one of a test.
type pod struct {
	namespace, name string
	node            int
	labels          string // name: value, …
	command         string // list; empty: agnhost answers by HTTP on 8080
	more            string // lines of the container's, indented by four
	ipv4, ipv6      string // once it is ready
}

// serving is what most pods do: HTTP on 8080, and UDP on 8081.
const serving = `[/agnhost, netexec, --http-port=8080, --udp-port=8081]`

// manifest of the pod, which also has the program traffic.
func (w *world) manifest(p *pod) string {
	command := p.command
	if command == "" {
		command = serving
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: %s
    command: %s
    volumeMounts: [{name: programs, mountPath: /e2e}]
%s
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, p.namespace, p.name, p.labels, w.Node(p.node).Name(), cluster.AgnhostImage, command, p.more, w.Repository()+"/build/e2e")
}

// namespace makes one that goes when the test ends.
func (w *world) namespace(name, labels string) {
	w.t.Helper()
	// One of an earlier run may be on its way out.
	w.kubectl("wait --for=delete namespace/" + name + " --timeout=30s")
	w.apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, labels))
	w.t.Cleanup(func() { w.drop("namespace", name) })
	w.eventually(20*time.Second, "a service account in namespace "+name, func() error {
		_, err := w.Kubectl(w.t.Context(), "get", "serviceaccount", "default", "-n", name)
		return err
	})
}

// drop removes an object, also when the test has ended; a namespace goes by and by.
func (w *world) drop(args ...string) {
	ctx, cancel := background()
	defer cancel()
	if _, err := w.Kubectl(ctx, append([]string{"delete", "--ignore-not-found", "--wait=false"}, args...)...); err != nil {
		w.t.Error(err)
	}
}

// make makes pods, and waits until they are ready.
func (w *world) make(pods ...*pod) {
	w.t.Helper()
	var all strings.Builder
	for _, p := range pods {
		all.WriteString(w.manifest(p))
	}
	w.apply(all.String())
	for _, p := range pods {
		w.ready(p)
	}
}

// ready waits for one that was made, and learns its addresses.
func (w *world) ready(p *pod) {
	w.t.Helper()
	w.kubectl(fmt.Sprintf("wait --for=condition=Ready pod/%s -n %s --timeout=60s", p.name, p.namespace))
	ips := strings.Fields(w.kubectl(fmt.Sprintf("get pod %s -n %s -o jsonpath={.status.podIPs[*].ip}", p.name, p.namespace)))
	if len(ips) != 2 {
		w.t.Fatalf("pod %s has the addresses %v, not one of each family", p.name, ips)
	}
	p.ipv4, p.ipv6 = ips[0], ips[1]
}

// exec runs a command in the pod.
func (w *world) exec(p *pod, command string) (string, error) {
	return w.Kubectl(w.t.Context(), "exec", "-n", p.namespace, p.name, "--", "sh", "-c", command)
}

// connects tries a TCP connection; nil says that it came about.
func (w *world) connects(from *pod, host string, port int) error {
	_, err := w.exec(from, fmt.Sprintf("/agnhost connect --timeout=2s %s", net.JoinHostPort(host, fmt.Sprint(port))))
	return err
}

// isolated is an error while the connection comes about, or is refused.
func (w *world) isolated(from *pod, host string, port int) error {
	err := w.connects(from, host, port)
	if err == nil {
		return fmt.Errorf("%s reaches %s:%d", from.name, host, port)
	}
	if !strings.Contains(err.Error(), "TIMEOUT") {
		return fmt.Errorf("%s to %s:%d: no time-out, but %w", from.name, host, port, err)
	}
	return nil
}

// counts is what the program traffic says of a target.
type counts struct {
	Sent, Answered, Failed int
	PauseMS                int64
	Errors                 []string
}

// lost is what did not come back.
func (c counts) lost() int { return c.Sent - c.Answered }

// caller makes a pod that calls; each target is NAME=KIND,ADDRESS.
func (w *world) caller(namespace, name string, node int, targets ...string) *pod {
	w.t.Helper()
	command, err := json.Marshal(append([]string{"/e2e/traffic", "call"}, targets...))
	if err != nil {
		w.t.Fatal(err)
	}
	p := &pod{namespace: namespace, name: name, node: node, labels: "role: caller", command: string(command)}
	w.make(p)
	return p
}

// echo is a pod that a caller calls, on port 7000.
func (w *world) echo(namespace, name string, node int, labels string) *pod {
	return &pod{namespace: namespace, name: name, node: node, labels: labels, command: "[/e2e/traffic, serve]"}
}

// ask asks a caller for its counts, from its node, which may always reach its pods.
func (w *world) ask(p *pod, what string) map[string]counts {
	w.t.Helper()
	out := w.node(p.node, fmt.Sprintf("%s ask http://%s:7001/%s", w.traffic(), p.ipv4, what))
	var all map[string]counts
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		w.t.Fatalf("counts of %s: %v: %q", p.name, err, out)
	}
	return all
}

// flowing waits until every target has answered so many times more.
func (w *world) flowing(p *pod, more int) {
	w.t.Helper()
	before := w.ask(p, "counts")
	w.eventually(20*time.Second, "every target answers "+p.name, func() error {
		for name, now := range w.ask(p, "counts") {
			if now.Answered < before[name].Answered+more {
				return fmt.Errorf("%s: %+v, before %+v", name, now, before[name])
			}
		}
		return nil
	})
}

// nothingLost ends the traffic; all of it must have come back, without an error.
func (w *world) nothingLost(p *pod) {
	w.t.Helper()
	all := w.ask(p, "stop")
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c := all[name]
		w.t.Logf("%s: %d sent, %d lost, %d errors, longest pause %d ms", name, c.Sent, c.lost(), c.Failed, c.PauseMS)
		if c.lost() != 0 || c.Failed != 0 {
			w.t.Errorf("%s: of %d sent %d were lost, %d failed: %v", name, c.Sent, c.lost(), c.Failed, c.Errors)
		}
		if c.Sent < 50 {
			w.t.Errorf("%s: only %d were sent", name, c.Sent)
		}
	}
}
