// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"net"
	"strings"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

type pod = framework.Pod

// service leads to the servers of a namespace, over both families.
func (w *world) service(namespace string, ports ...int) (ips [2]string) {
	w.T.Helper()
	var list []string
	for _, p := range ports {
		list = append(list, fmt.Sprintf("{name: p%d, port: %d}", p, p))
	}
	w.Apply(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: servers, namespace: %s}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {role: server}
  ports: [%s]
`, namespace, strings.Join(list, ", ")))
	return w.ServiceIPs(namespace, "servers")
}

func url(host string, port int, path string) string {
	return "http://" + net.JoinHostPort(host, fmt.Sprint(port)) + path
}

// fetch asks with busybox, which is not ours; denied is an error that has what it said.
func (w *world) fetch(from *pod, url string) (string, error) {
	return w.Exec(from, "timeout 5 wget -q -O - '"+url+"'")
}
