// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"maps"
	"slices"
	"strings"
)

// load is traffic that is counted: requests that a rule is about, from a pod of the first
// node to one beside it, to one of the second node and to both through a Service, on
// connections that are kept and on one each; and connections that no such rule is about.
type load struct {
	*world
	namespace string
	caller    *pod
	near, far *pod
}

const loadRules = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: servers, namespace: NS}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: caller}}]
    toPorts:
    - {ports: [{port: "7080", protocol: TCP}], rules: {http: [{method: GET, path: /a}]}}
    - {ports: [{port: "7000", protocol: ANY}]}
`

// loaded starts traffic in a namespace of its own, which goes when the test ends.
func (w *world) loaded(namespace string) *load {
	w.T.Helper()
	l := &load{world: w, namespace: namespace}
	one := func(name string, node int, role string, args ...string) *pod {
		return &pod{Namespace: namespace, Name: name, Node: node, Labels: "role: " + role, Command: append([]string{"/programs/traffic"}, args...)}
	}
	l.near, l.far = one("near", 1, "server", "serve"), one("far", 2, "server", "serve")
	w.Namespace(namespace, "")
	w.Apply(strings.ReplaceAll(loadRules, "NS", namespace))
	w.Make(l.near, l.far)
	service := w.service(namespace, 7080)
	w.Shell("weft status --wait --timeout 60s")
	args := []string{"call"}
	target := func(name, kind, address string) { args = append(args, name+"="+kind+","+address) }
	target("near4-web", "web", url(l.near.IPv4, 7080, "/a"))
	target("near6-visit", "visit", url(l.near.IPv6, 7080, "/a"))
	target("far6-web", "web", url(l.far.IPv6, 7080, "/a"))
	target("far4-visit", "visit", url(l.far.IPv4, 7080, "/a"))
	target("far4-web2", "web2", url(l.far.IPv4, 7080, "/a"))
	target("service4-web", "web", url(service[0], 7080, "/a"))
	target("service6-visit", "visit", url(service[1], 7080, "/a"))
	target("plain-near4", "stream", l.near.IPv4+":7000")
	target("plain-far6", "stream", "["+l.far.IPv6+"]:7000")
	target("plain-far4", "request", l.far.IPv4+":7000")
	l.caller = one("caller", 1, "caller", args...)
	w.Make(l.caller)
	l.Flowing(settle, l.caller, 20)
	return l
}

// plain targets have nothing to do with the proxy.
func plain(target string) bool { return strings.HasPrefix(target, "plain-") }

// nothingFailed says so of all traffic until now, which goes on.
func (l *load) nothingFailed(until string) {
	l.T.Helper()
	l.Flowing(settle, l.caller, 20)
	all := l.Counts(l.caller, "counts")
	sent, longest := 0, int64(0)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		sent, longest = sent+c.Sent, max(longest, c.PauseMS)
		if c.Failed != 0 {
			l.T.Errorf("%s: %s: of %d requests %d failed: %v", until, name, c.Sent, c.Failed, c.Errors)
		}
	}
	l.T.Logf("%s: %d sent by %d ways, longest pause of one %d ms", until, sent, len(all), longest)
}
