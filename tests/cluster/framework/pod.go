// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// Pod is one of a test.
type Pod struct {
	Namespace, Name string
	Node            int
	Labels          string   // name: value, …
	Command         []string // empty: a program that is not ours answers HTTP on port 8080, and UDP on 8081
	Spec, Container string   // more lines of the spec, indented by two, and of the container's, by four
	IPv4, IPv6      string   // once it is ready
}

// IPs are the pod's addresses: IPv4, IPv6.
func (p *Pod) IPs() [2]string { return [2]string{p.IPv4, p.IPv6} }

// Manifest of the pod, which has the suite's programs in /programs.
func (w *World) Manifest(p *Pod) string {
	w.T.Helper()
	command := p.Command
	if len(command) == 0 {
		command = []string{"/agnhost", "netexec", "--http-port=8080", "--udp-port=8081"}
	}
	list, err := json.Marshal(command)
	if err != nil {
		w.T.Fatal(err)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {%s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
%s
  containers:
  - name: main
    image: %s
    command: %s
    volumeMounts: [{name: programs, mountPath: /programs}]
%s
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, p.Namespace, p.Name, p.Labels, w.Node(p.Node).Name(), p.Spec, cluster.AgnhostImage, list, p.Container, w.Programs())
}

// Namespace makes one that goes by and by when the test has ended.
func (w *World) Namespace(name, labels string) {
	w.T.Helper()
	// One of an earlier run may be on its way out.
	w.Kubectl("wait --for=delete namespace/" + name + " --timeout=60s")
	w.Apply(fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}\n", name, labels))
	w.T.Cleanup(func() { w.Must("delete namespace --ignore-not-found --wait=false " + name) })
	w.Eventually(20*time.Second, "a service account in namespace "+name, func() error {
		_, err := w.Cluster.Kubectl(w.T.Context(), "get", "serviceaccount", "default", "-n", name)
		return err
	})
}

// Make makes pods, and waits until they are ready.
func (w *World) Make(pods ...*Pod) {
	w.T.Helper()
	var all strings.Builder
	for _, p := range pods {
		all.WriteString(w.Manifest(p))
	}
	w.Apply(all.String())
	for _, p := range pods {
		w.Ready(p)
	}
}

// Ready waits for one that was made, and learns its addresses.
func (w *World) Ready(p *Pod) {
	w.T.Helper()
	w.Kubectl(fmt.Sprintf("wait --for=condition=Ready pod/%s -n %s --timeout=%v", p.Name, p.Namespace, w.options.Pods))
	w.Addresses(p)
}

// Addresses learns the addresses that a pod has now.
func (w *World) Addresses(p *Pod) {
	w.T.Helper()
	ips := w.both(fmt.Sprintf("pod %s -n %s -o jsonpath={.status.podIPs[*].ip}", p.Name, p.Namespace))
	p.IPv4, p.IPv6 = ips[0], ips[1]
}

// ServiceIPs are the addresses of a Service: IPv4, IPv6.
func (w *World) ServiceIPs(namespace, name string) [2]string {
	w.T.Helper()
	return w.both(fmt.Sprintf("service %s -n %s -o jsonpath={.spec.clusterIPs[*]}", name, namespace))
}

// both are the addresses that an object has, one of each family.
func (w *World) both(what string) [2]string {
	w.T.Helper()
	ips := strings.Fields(w.Kubectl("get " + what))
	if len(ips) != 2 {
		w.T.Fatalf("%s: the addresses are %v, not one of each family", what, ips)
	}
	return [2]string(ips)
}
