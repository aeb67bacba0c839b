// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"fmt"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

type pod = framework.Pod

// newPod runs the program traffic. It answers on port 7000 what it is sent, and on 7001
// who that was, unless it has other arguments.
func newPod(namespace, name string, node int, role string, args ...string) *pod {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	return &pod{Namespace: namespace, Name: name, Node: node, Labels: "role: " + role,
		Command: append([]string{"/programs/traffic"}, args...), Spec: "  tolerations: [{operator: Exists}]"}
}

// namespace makes one that is gone when the test has ended.
func (w *world) namespace(name string) {
	w.T.Helper()
	w.Namespace(name, "")
	w.T.Cleanup(func() { w.Drop("namespace " + name) })
}

// isolated must be a pod's server from another one, which hears nothing of it.
func (w *world) isolated(from *pod, host string) {
	w.T.Helper()
	w.Eventually(20*time.Second, "asked", func() error { // kubelet may be on its way back
		err := w.Connects(from, host, 7000)
		if err == nil {
			w.T.Errorf("%s reaches %s", from.Name, host)
		}
		if err != nil && !strings.Contains(err.Error(), "TIMEOUT") {
			return fmt.Errorf("%s to %s: no time-out, but %w", from.Name, host, err)
		}
		return nil
	})
}
