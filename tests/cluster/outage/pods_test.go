// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// pod is one of a test. It answers on port 7000 what it is sent, and on 7001 who that was,
// unless it has another command.
type pod struct {
	namespace, name string
	node            int
	labels          string   // name: value, …
	args            []string // of the program traffic; none: serve
	ipv4, ipv6      string   // once it is ready
}

func (w *world) manifest(p *pod) string {
	args := p.args
	if len(args) == 0 {
		args = []string{"serve"}
	}
	command, err := json.Marshal(append([]string{"/outage/traffic"}, args...))
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - name: main
    image: %s
    command: %s
    volumeMounts: [{name: programs, mountPath: /outage}]
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, p.namespace, p.name, p.labels, w.Node(p.node).Name(), cluster.AgnhostImage, command, w.Repository()+"/build/outage")
}

// namespace makes one that goes when the test ends.
func (w *world) namespace(name string) {
	w.t.Helper()
	w.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}\n")
	w.t.Cleanup(func() { w.drop("namespace", name) })
	w.eventually(20*time.Second, "a service account in namespace "+name, func() error {
		_, err := w.Kubectl(w.t.Context(), "get", "serviceaccount", "default", "-n", name)
		return err
	})
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
	w.kubectl(fmt.Sprintf("wait --for=condition=Ready pod/%s -n %s --timeout=90s", p.name, p.namespace))
	w.addresses(p)
}

func (w *world) addresses(p *pod) {
	w.t.Helper()
	ips := strings.Fields(w.kubectl(fmt.Sprintf("get pod %s -n %s -o jsonpath={.status.podIPs[*].ip}", p.name, p.namespace)))
	if len(ips) != 2 {
		w.t.Fatalf("pod %s has the addresses %v, not one of each family", p.name, ips)
	}
	p.ipv4, p.ipv6 = ips[0], ips[1]
}

// connects tries a TCP connection from a pod; nil says that it came about.
func (w *world) connects(from *pod, host string) error {
	_, err := w.Kubectl(w.t.Context(), "exec", "-n", from.namespace, from.name, "--",
		"/agnhost", "connect", "--timeout=2s", net.JoinHostPort(host, "7000"))
	return err
}

// isolated must be a pod's server from another one, which hears nothing of it.
func (w *world) isolated(from *pod, host string) {
	w.t.Helper()
	w.eventually(20*time.Second, "asked", func() error { // kubelet may be on its way back
		err := w.connects(from, host)
		if err == nil {
			w.t.Errorf("%s reaches %s", from.name, host)
		}
		if err != nil && !strings.Contains(err.Error(), "TIMEOUT") {
			return fmt.Errorf("%s to %s: no time-out, but %w", from.name, host, err)
		}
		return nil
	})
}

// ask asks the program in a pod, from its node, which may always reach its pods.
func (w *world) ask(p *pod, what string, into any) error {
	out, err := w.Node(p.node).Run(w.t.Context(), fmt.Sprintf("%s ask http://%s:7001/%s", w.traffic(), p.ipv4, what))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%s of %s: %w: %q", what, p.name, err, out)
	}
	return nil
}
