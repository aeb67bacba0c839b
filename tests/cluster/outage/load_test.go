// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// load is traffic that is counted: from a pod of the first node to one beside it, to one
// of the second node, to both through a Service, and outside; all of it allowed by
// policies at either end. Besides it calls two pods whose policy keeps it out.
type load struct {
	*world
	namespace    string
	caller       *pod
	near, far    *pod
	stranger     *pod // on the second node; may call nobody's server here
	shut, secret *pod // beside the caller, and on the second node
}

// loadPolicies isolate all pods of a namespace both ways, and let callers reach servers,
// and the outside.
const loadPolicies = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolated, namespace: NS}
spec: {podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [stranger]}]}, policyTypes: [Ingress, Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: servers, namespace: NS}
spec:
  podSelector: {matchLabels: {role: server}}
  ingress: [{from: [{podSelector: {matchLabels: {role: caller}}}], ports: [{port: 7000}, {port: 7000, protocol: UDP}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: callers, namespace: NS}
spec:
  podSelector: {matchLabels: {role: caller}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchExpressions: [{key: role, operator: In, values: [server, shut]}]}}]
    ports: [{port: 7000}, {port: 7000, protocol: UDP}]
  - to: [{ipBlock: {cidr: OUTSIDE/32}}]
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: NS}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {stays: both}
  publishNotReadyAddresses: true
  ports: [{name: tcp, port: 7000}, {name: udp, port: 7000, protocol: UDP}]
`

// loaded starts traffic in a namespace of its own, which goes when the test ends.
func (w *world) loaded(namespace string) *load {
	w.T.Helper()
	l := &load{world: w, namespace: namespace}
	l.near, l.far = l.pod("near", 1, "server, stays: both"), l.pod("far", 2, "server, stays: both")
	l.shut, l.secret = l.pod("shut", 1, "shut"), l.pod("secret", 2, "shut")
	l.stranger = l.pod("stranger", 2, "stranger")
	w.namespace(namespace)
	w.Apply(strings.NewReplacer("NS", namespace, "OUTSIDE", cluster.OutsideIPv4).Replace(loadPolicies))
	w.Make(l.near, l.far, l.shut, l.secret, l.stranger)
	ips := w.ServiceIPs(namespace, "both")
	w.ServeOutside()
	l.caller = l.pod("caller", 1, "caller", slices.Concat([]string{"call", "outside-stream=stream," + cluster.OutsideIPv4 + ":7000",
		"shut4=datagram," + l.shut.IPv4 + ":7000", "shut6=datagram,[" + l.shut.IPv6 + "]:7000",
		"shut-far4=datagram," + l.secret.IPv4 + ":7000", "shut-far6=datagram,[" + l.secret.IPv6 + "]:7000",
		"shut-tcp=request," + l.secret.IPv4 + ":7000"},
		ways("near", l.near.IPv4, l.near.IPv6), ways("far", l.far.IPv4, l.far.IPv6), ways("service", ips[0], ips[1]))...)
	w.Make(l.caller)
	l.Flowing(20*time.Second, l.caller, 20)
	return l
}

func (l *load) pod(name string, node int, role string, args ...string) *pod {
	return newPod(l.namespace, name, node, role, args...)
}

// ways are all in which two addresses are called.
func ways(name, ipv4, ipv6 string) []string {
	var all []string
	for _, kind := range []string{"stream", "request", "datagram"} {
		all = append(all, name+"-"+kind+"4="+kind+","+ipv4+":7000", name+"-"+kind+"6="+kind+",["+ipv6+"]:7000")
	}
	return all
}

// nothingLost ends the traffic: all of it must have come back, without an error, and
// nothing from where it may not get to.
func (l *load) nothingLost() {
	l.T.Helper()
	l.Flowing(20*time.Second, l.caller, 20)
	all := l.Counts(l.caller, "stop")
	sent, longest := 0, int64(0)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		if framework.KeptOut(name) {
			if c.Answered != 0 || c.Sent == 0 {
				l.T.Errorf("%s: of %d sent %d were answered, of a pod that is isolated", name, c.Sent, c.Answered)
			}
			continue
		}
		if c.Lost() != 0 || c.Failed != 0 || c.Sent < 50 {
			l.T.Errorf("%s: of %d sent %d were lost, %d failed: %v", name, c.Sent, c.Lost(), c.Failed, c.Errors)
		}
		if c.PauseMS > 500 {
			l.T.Logf("%s: a pause of %d ms", name, c.PauseMS)
		}
		sent, longest = sent+c.Sent, max(longest, c.PauseMS)
	}
	l.T.Logf("%d sent by %d ways, longest pause of one %d ms", sent, len(all), longest)
}
