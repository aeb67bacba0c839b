// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"time"
)

// agentAway takes the agent off a node until the function that it returns, which waits
// for it, is called; that is done at the end of the test in any case.
func (w *world) agentAway(n int) (back func()) {
	w.t.Helper()
	name := w.Node(n).Name()
	// The DaemonSet goes where no node has this label.
	w.kubectl("label node " + name + " e2e=away --overwrite")
	patch := `{"spec":{"template":{"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":` +
		`{"nodeSelectorTerms":[{"matchExpressions":[{"key":"e2e","operator":"NotIn","values":["away"]}]}]}}}}}}}`
	if _, err := w.Kubectl(w.t.Context(), "patch", "daemonset", "weft-agent", "-n", "weft-system", "--type=merge", "-p", patch); err != nil {
		w.t.Fatal(err)
	}
	done := false
	back = func() {
		if !done {
			done = true
			w.kubectl("label node " + name + " e2e-")
			w.kubectl("rollout status daemonset/weft-agent -n weft-system --timeout=90s")
			w.shell("weft status --wait")
		}
	}
	w.t.Cleanup(func() {
		if !done {
			w.drop("label")
		}
	})
	w.eventually(60*time.Second, "without an agent on "+name, func() error {
		if out := w.agentPod(n); out != "" {
			return fmt.Errorf("%s is there", out)
		}
		return nil
	})
	return back
}

// agentPod is the name of a node's agent.
func (w *world) agentPod(n int) string {
	w.t.Helper()
	return strings.TrimSpace(w.kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-agent -o jsonpath={.items[*].metadata.name} --field-selector=spec.nodeName=" + w.Node(n).Name()))
}
