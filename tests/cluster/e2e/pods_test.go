// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"slices"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

type pod = framework.Pod

// caller makes a pod that calls; each target is NAME=KIND,ADDRESS.
func (w *world) caller(namespace, name string, node int, targets ...string) *pod {
	w.T.Helper()
	p := &pod{Namespace: namespace, Name: name, Node: node, Labels: "role: caller", Command: append([]string{"/programs/traffic", "call"}, targets...)}
	w.Make(p)
	return p
}

// echo is a pod that a caller calls, on port 7000.
func echo(namespace, name string, node int, labels string) *pod {
	return &pod{Namespace: namespace, Name: name, Node: node, Labels: labels, Command: []string{"/programs/traffic", "serve"}}
}

// streams are all ways in which a pod calls another.
func streams(name string, p *pod) []string {
	return []string{name + "-tcp4=stream," + p.IPv4 + ":7000", name + "-tcp6=stream,[" + p.IPv6 + "]:7000",
		name + "-requests=request," + p.IPv4 + ":7000", name + "-udp4=datagram," + p.IPv4 + ":7000", name + "-udp6=datagram,[" + p.IPv6 + "]:7000"}
}

// nothingLost ends the traffic; all of it must have come back, without an error.
func (w *world) nothingLost(p *pod) {
	w.T.Helper()
	all := w.Counts(p, "stop")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		w.T.Logf("%s: %d sent, %d lost, %d errors, longest pause %d ms", name, c.Sent, c.Lost(), c.Failed, c.PauseMS)
		if c.Lost() != 0 || c.Failed != 0 {
			w.T.Errorf("%s: of %d sent %d were lost, %d failed: %v", name, c.Sent, c.Lost(), c.Failed, c.Errors)
		}
		if c.Sent < 50 {
			w.T.Errorf("%s: only %d were sent", name, c.Sent)
		}
	}
}
