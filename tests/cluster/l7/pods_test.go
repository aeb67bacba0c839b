// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// pod is one of a test.
type pod struct {
	namespace, name string
	node            int
	role            string // its label
	command         []string
	ips             [2]string // once it is ready: IPv4, IPv6
}

// serving answers HTTP on port 8080 with a program that is not ours: /clientip says who
// asks, /hostname who answers.
func serving() []string { return []string{"/agnhost", "netexec", "--http-port=8080"} }

// manifest of the pod, which also has the program traffic.
func (w *world) manifest(p *pod) string {
	command, err := json.Marshal(p.command)
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s, labels: {role: %s}}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: %s
    command: %s
    volumeMounts: [{name: programs, mountPath: /l7}]
  volumes: [{name: programs, hostPath: {path: %s}}]
---
`, p.namespace, p.name, p.role, w.Node(p.node).Name(), cluster.AgnhostImage, command, w.Repository()+"/build/l7")
}

// namespace makes one that goes when the test ends.
func (w *world) namespace(name string) {
	w.t.Helper()
	w.kubectl("wait --for=delete namespace/" + name + " --timeout=60s")
	w.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}\n")
	w.t.Cleanup(func() { w.must("delete", "namespace", name, "--wait=false") })
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
		w.kubectl(fmt.Sprintf("wait --for=condition=Ready pod/%s -n %s --timeout=90s", p.name, p.namespace))
		ips := strings.Fields(w.kubectl(fmt.Sprintf("get pod %s -n %s -o jsonpath={.status.podIPs[*].ip}", p.name, p.namespace)))
		if len(ips) != 2 {
			w.t.Fatalf("pod %s has the addresses %v, not one of each family", p.name, ips)
		}
		p.ips = [2]string(ips)
	}
}

// service leads to the servers of a namespace, over both families.
func (w *world) service(namespace string, ports ...int) (ips [2]string) {
	w.t.Helper()
	var list []string
	for _, p := range ports {
		list = append(list, fmt.Sprintf("{name: p%d, port: %d}", p, p))
	}
	w.apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: servers, namespace: %s}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {role: server}
  ports: [%s]
`, namespace, strings.Join(list, ", ")))
	all := strings.Fields(w.kubectl("get service servers -n " + namespace + " -o jsonpath={.spec.clusterIPs[*]}"))
	if len(all) != 2 {
		w.t.Fatalf("the Service has the addresses %v, not one of each family", all)
	}
	return [2]string(all)
}

// exec runs a command in the pod.
func (w *world) exec(p *pod, command string) (string, error) {
	return w.Kubectl(w.t.Context(), "exec", "-n", p.namespace, p.name, "--", "sh", "-c", command)
}

func url(host string, port int, path string) string {
	return "http://" + net.JoinHostPort(host, fmt.Sprint(port)) + path
}

// fetch asks with busybox, which is not ours; denied is an error that has what it said.
func (w *world) fetch(from *pod, url string) (string, error) {
	return w.exec(from, "timeout 5 wget -q -O - '"+url+"'")
}
