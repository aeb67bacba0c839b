// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Back gives what undoes something once: when it is called, at the latest when the test
// ends.
func (w *World) Back(undo func()) (back func()) {
	back = sync.OnceFunc(undo)
	w.T.Cleanup(back)
	return back
}

// HangAPIServer stops the API server in the middle of what it does, until back is called.
func (w *World) HangAPIServer() (back func()) {
	w.T.Helper()
	signal := func(s syscall.Signal) error { return w.SignalControlPlane("kube-apiserver", s) }
	if err := signal(syscall.SIGSTOP); err != nil {
		w.T.Fatal(err)
	}
	return w.Back(func() {
		if err := signal(syscall.SIGCONT); err != nil {
			w.T.Error(err)
		}
	})
}

// RouteAway has what a node sends to these prefixes be refused, until back is called.
func (w *World) RouteAway(n int, prefixes ...string) (back func()) {
	w.T.Helper()
	undo, err := w.Node(n).RouteAway(prefixes...)
	if err != nil {
		w.T.Fatal(err)
	}
	return w.Back(func() {
		if err := undo(); err != nil {
			w.T.Error(err)
		}
	})
}

// Patches of the agents' DaemonSet: it goes where no node has the label weft-test=away, and
// no agent is replaced for that; and as the chart has it.
const (
	awayPatch = `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"affinity":{"nodeAffinity":` +
		`{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"weft-test","operator":"NotIn","values":["away"]}]}]}}}}}}}`
	backPatch = `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"10%"}},"template":{"spec":{"affinity":null}}}}`
)

// AgentAway takes the agent off a node, until back is called.
func (w *World) AgentAway(n int) (back func()) {
	w.T.Helper()
	const patch = "patch daemonset weft-agent -n weft-system --type=merge -p"
	name := w.Node(n).Name()
	back = w.Back(func() {
		w.Must("label node " + name + " weft-test-")
		w.Must(patch, backPatch)
	})
	w.Must("label node " + name + " weft-test=away --overwrite")
	w.Must(patch, awayPatch)
	w.Eventually(60*time.Second, "without an agent on "+name, func() error {
		pod := w.Kubectl("get pods -n weft-system -l app.kubernetes.io/name=weft-agent -o name --field-selector=spec.nodeName=" + name)
		left, err := w.Processes(n, "weft-agent")
		if pod != "" || len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("%sand processes %v are there", pod, left))
		}
		return err
	})
	return back
}
