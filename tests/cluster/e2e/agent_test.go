// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"time"
)

// Patches of the DaemonSet: it goes where no node has the label e2e=away, and no agent is
// replaced for that; and as the chart has it.
const (
	awayPatch = `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"affinity":{"nodeAffinity":` +
		`{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"e2e","operator":"NotIn","values":["away"]}]}]}}}}}}}`
	backPatch = `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"10%"}},"template":{"spec":{"affinity":null}}}}`
)

// agentAway takes the agent off a node until back is called, at the latest when the test
// ends.
func (w *world) agentAway(n int) (back func()) {
	w.t.Helper()
	name := w.Node(n).Name()
	patch := func(p string) {
		w.must("patch", "daemonset", "weft-agent", "-n", "weft-system", "--type=merge", "-p", p)
	}
	is := true
	back = func() {
		if is {
			is = false
			w.must("label", "node", name, "e2e-")
			patch(backPatch)
		}
	}
	w.t.Cleanup(back)
	w.must("label", "node", name, "e2e=away", "--overwrite")
	patch(awayPatch)
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

// agentPID is a node's agent, as the node sees it; 0: none runs.
func (w *world) agentPID(n int) string {
	w.t.Helper()
	return strings.TrimSpace(w.node(n, `for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" != weft-agent ] || echo ${p#/proc/}; done`))
}

// killAgent ends a node's agent with SIGKILL, and gives back who it was.
func (w *world) killAgent(n int) string {
	w.t.Helper()
	pid := w.agentPID(n)
	if pid == "" {
		w.t.Fatalf("no agent runs on node %d", n)
	}
	w.node(n, "kill -9 "+pid)
	return pid
}

// settled waits until Weft is ready everywhere.
func (w *world) settled() {
	w.t.Helper()
	w.shell("weft status --wait --timeout 90s")
}

// must runs kubectl also when the test has ended.
func (w *world) must(args ...string) {
	w.t.Helper()
	ctx, cancel := background()
	defer cancel()
	if _, err := w.Kubectl(ctx, args...); err != nil {
		w.t.Fatal(err)
	}
}
