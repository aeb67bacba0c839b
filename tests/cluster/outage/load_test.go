// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// counts is what the program traffic says of a target.
type counts struct {
	Sent, Answered, Failed int
	PauseMS                int64
	Errors                 []string
}

// load is traffic that is counted: from a pod of the first node to one beside it, to one
// of the second node, to both through a Service, and outside; all of it allowed by
// policies at either end. Besides it calls two pods whose policy keeps it out.
type load struct {
	w            *world
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
	w.t.Helper()
	l := &load{w: w, namespace: namespace}
	l.near, l.far = l.pod("near", 1, "server, stays: both"), l.pod("far", 2, "server, stays: both")
	l.shut, l.secret = l.pod("shut", 1, "shut"), l.pod("secret", 2, "shut")
	l.stranger = l.pod("stranger", 2, "stranger")
	w.namespace(namespace)
	w.apply(strings.NewReplacer("NS", namespace, "OUTSIDE", cluster.OutsideIPv4).Replace(loadPolicies))
	w.make(l.near, l.far, l.shut, l.secret, l.stranger)
	ips := strings.Fields(w.kubectl("get service both -n " + namespace + " -o jsonpath={.spec.clusterIPs[*]}"))
	if len(ips) != 2 {
		w.t.Fatalf("the Service has the addresses %v, not one of each family", ips)
	}
	w.serveOutside()
	l.caller = l.pod("caller", 1, "caller")
	l.caller.args = slices.Concat([]string{"call", "outside-stream=stream," + cluster.OutsideIPv4 + ":7000",
		"shut4=datagram," + l.shut.ipv4 + ":7000", "shut6=datagram,[" + l.shut.ipv6 + "]:7000",
		"shut-far4=datagram," + l.secret.ipv4 + ":7000", "shut-far6=datagram,[" + l.secret.ipv6 + "]:7000",
		"shut-tcp=request," + l.secret.ipv4 + ":7000"},
		ways("near", l.near.ipv4, l.near.ipv6), ways("far", l.far.ipv4, l.far.ipv6), ways("service", ips[0], ips[1]))
	w.make(l.caller)
	l.flowing(20)
	return l
}

func (l *load) pod(name string, node int, role string) *pod {
	return &pod{namespace: l.namespace, name: name, node: node, labels: "role: " + role}
}

// ways are all in which two addresses are called.
func ways(name, ipv4, ipv6 string) []string {
	var all []string
	for _, kind := range []string{"stream", "request", "datagram"} {
		all = append(all, name+"-"+kind+"4="+kind+","+ipv4+":7000", name+"-"+kind+"6="+kind+",["+ipv6+"]:7000")
	}
	return all
}

// serveOutside answers on the host outside, until the test has ended.
func (w *world) serveOutside() {
	w.t.Helper()
	pid, err := w.Outside(w.t.Context(), w.traffic()+" serve </dev/null >/dev/null 2>&1 & echo -n $!")
	if err != nil {
		w.t.Fatalf("serving outside: %v: %s", err, pid)
	}
	w.t.Cleanup(func() {
		if out, err := w.Outside(context.Background(), "kill "+pid); err != nil {
			w.t.Errorf("it does not serve outside any more: %v: %s", err, out)
		}
	})
	w.eventually(10*time.Second, "served outside", func() error {
		out, err := w.Outside(w.t.Context(), w.traffic()+" ask http://127.0.0.1:7001/heard")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// counts of the caller.
func (l *load) counts() map[string]counts {
	l.w.t.Helper()
	var all map[string]counts
	if err := l.w.ask(l.caller, "counts", &all); err != nil {
		l.w.t.Fatal(err)
	}
	return all
}

func keptOut(target string) bool { return strings.HasPrefix(target, "shut") }

// flowing waits until every target that may answer has done so so many times more.
func (l *load) flowing(more int) {
	l.w.t.Helper()
	before := l.counts()
	l.w.eventually(20*time.Second, "every target answers", func() error {
		for name, now := range l.counts() {
			if !keptOut(name) && now.Answered < before[name].Answered+more {
				return fmt.Errorf("%s: %+v, before %+v", name, now, before[name])
			}
		}
		return nil
	})
}

// nothingLost ends the traffic: all of it must have come back, without an error, and
// nothing from where it may not get to.
func (l *load) nothingLost() {
	l.w.t.Helper()
	l.flowing(20)
	var all map[string]counts
	if err := l.w.ask(l.caller, "stop", &all); err != nil {
		l.w.t.Fatal(err)
	}
	sent, longest := 0, int64(0)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		if keptOut(name) {
			if c.Answered != 0 || c.Sent == 0 {
				l.w.t.Errorf("%s: of %d sent %d were answered, of a pod that is isolated", name, c.Sent, c.Answered)
			}
			continue
		}
		if c.Sent != c.Answered || c.Failed != 0 || c.Sent < 50 {
			l.w.t.Errorf("%s: of %d sent %d were lost, %d failed: %v", name, c.Sent, c.Sent-c.Answered, c.Failed, c.Errors)
		}
		if c.PauseMS > 500 {
			l.w.t.Logf("%s: a pause of %d ms", name, c.PauseMS)
		}
		sent, longest = sent+c.Sent, max(longest, c.PauseMS)
	}
	l.w.t.Logf("%d sent by %d ways, longest pause of one %d ms", sent, len(all), longest)
}
