// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// settle is how long a change of policy may take to be in every kernel, on a machine
// that has other work.
const settle = 20 * time.Second

// shop is what the tests of policies play on: web servers on both nodes, whose port http
// is another on each, and who calls them, from another namespace.
type shop struct {
	*world
	near, far, client *pod
}

func newShop(t *testing.T) *shop {
	t.Helper()
	w := installed(t)
	w.Namespace("e2e-shop", "team: shop")
	w.Namespace("e2e-street", "colour: blue")
	s := &shop{world: w,
		near:   &pod{Namespace: "e2e-shop", Name: "near", Node: 1, Labels: "app: web, at: near", Container: "    ports: [{name: http, containerPort: 8080}]"},
		far:    &pod{Namespace: "e2e-shop", Name: "far", Node: 2, Labels: "app: web, at: far", Command: []string{"/agnhost", "netexec", "--http-port=9090", "--udp-port=9091"}, Container: "    ports: [{name: http, containerPort: 9090}]"},
		client: &pod{Namespace: "e2e-street", Name: "client", Node: 1, Labels: "app: client"}}
	w.Make(s.near, s.far, s.client)
	return s
}

func TestPolicies(t *testing.T) {
	whole := newShop(t)
	for name, test := range map[string]func(*shop){
		"named ports mean those of each pod":                namedPorts,
		"a namespace that is relabelled is another":         relabelledNamespace,
		"a pod that is relabelled is another":               relabelledPod,
		"a policy reaches open connections":                 openConnections,
		"entities, and addresses outside":                   entities,
		"observe names who, and the policy that decided it": observe,
	} {
		t.Run(name, func(t *testing.T) {
			part := *whole
			part.world = &world{whole.In(t)}
			test(&part)
		})
	}
}

// policy applies one that goes when the test ends.
func (s *shop) policy(yaml string) {
	s.T.Helper()
	s.Apply(yaml)
	s.T.Cleanup(func() {
		for _, kinds := range []string{"networkpolicy,weftnetworkpolicy -n e2e-shop", "networkpolicy,weftnetworkpolicy -n e2e-street", "weftclusternetworkpolicy"} {
			s.Drop("--all " + kinds)
		}
	})
}

// reach and cannot wait until it is so.
func (s *shop) reach(from *pod, host string, port int) {
	s.T.Helper()
	s.Eventually(settle, fmt.Sprintf("%s reaches %s:%d", from.Name, host, port), func() error { return s.Connects(from, host, port) })
}

func (s *shop) cannot(from *pod, host string, port int) {
	s.T.Helper()
	s.Eventually(settle, fmt.Sprintf("%s is kept from %s:%d", from.Name, host, port), func() error { return s.Isolated(from, host, port) })
}

func namedPorts(s *shop) {
	s.T.Helper()
	s.policy(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: named, namespace: e2e-street}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {matchLabels: {team: shop}}}], ports: [{port: http}]}]
`)
	s.cannot(s.client, s.near.IPv4, 8081)
	s.reach(s.client, s.near.IPv4, 8080)
	s.reach(s.client, s.far.IPv6, 9090)
	s.cannot(s.client, s.far.IPv4, 8080) // the other's number
	s.Drop("networkpolicy named -n e2e-street")
	s.policy(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: named, namespace: e2e-shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {"k8s:io.cilium.k8s.namespace.labels.colour": blue}}]
    toPorts: [{ports: [{port: http, protocol: TCP}]}]
`)
	s.cannot(s.client, s.far.IPv4, 9999)
	s.reach(s.client, s.near.IPv6, 8080)
	s.reach(s.client, s.far.IPv4, 9090)
}

func relabelledNamespace(s *shop) {
	s.T.Helper()
	s.policy(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: blue, namespace: e2e-shop}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress: [{from: [{namespaceSelector: {matchLabels: {colour: blue}}}]}]
`)
	s.cannot(s.near, s.far.IPv4, 9090)
	s.reach(s.client, s.far.IPv4, 9090)
	s.Kubectl("label namespace e2e-street colour=green --overwrite")
	s.cannot(s.client, s.far.IPv4, 9090)
	s.cannot(s.client, s.near.IPv6, 8080)
	s.Kubectl("label namespace e2e-street colour=blue --overwrite")
	s.reach(s.client, s.far.IPv4, 9090)
	s.reach(s.client, s.near.IPv6, 8080)
}

func relabelledPod(s *shop) {
	s.T.Helper()
	s.policy(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftClusterNetworkPolicy
metadata: {name: e2e-friends}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{fromEndpoints: [{matchLabels: {friend: "yes"}}]}]
`)
	s.cannot(s.client, s.far.IPv4, 9090)
	s.Kubectl("label pod client -n e2e-street friend=yes")
	s.reach(s.client, s.far.IPv4, 9090)
	s.Kubectl("label pod client -n e2e-street friend-")
	s.cannot(s.client, s.far.IPv4, 9090)
	s.Drop("weftclusternetworkpolicy e2e-friends")
	s.reach(s.client, s.far.IPv4, 9090)
}

func openConnections(s *shop) {
	s.T.Helper()
	server := echo("e2e-shop", "echo", 2, "app: echo")
	s.Make(server)
	caller := s.caller("e2e-street", "caller", 1, "tcp=stream,"+server.IPv4+":7000", "tcp6=stream,["+server.IPv6+"]:7000")
	s.Flowing(settle, caller, 20)
	s.policy(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: e2e-shop}
spec: {podSelector: {matchLabels: {app: echo}}, policyTypes: [Ingress]}
`)
	var before map[string]framework.Counts
	quiet := 0
	s.Eventually(settle, "cut, all of them", func() error {
		now := s.Counts(caller, "counts")
		for name := range now {
			if now[name].Answered > before[name].Answered {
				before, quiet = now, 0
				return fmt.Errorf("%s goes on", name)
			}
		}
		if quiet++; quiet < 8 { // looks, each later than the pause of a connection that goes on
			return errors.New("it was quiet a moment only")
		}
		return nil
	})
	s.Drop("networkpolicy closed -n e2e-shop")
	s.Flowing(settle, caller, 20)
	for name, c := range s.Counts(caller, "stop") {
		if c.Failed != 0 || c.Lost() != 0 {
			s.T.Errorf("%s is another connection now: %+v", name, c)
		}
	}
}

func entities(s *shop) {
	s.T.Helper()
	s.policy(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: api-only, namespace: e2e-street}
spec:
  endpointSelector: {}
  egress: [{toEntities: [kube-apiserver]}]
`)
	s.cannot(s.client, s.near.IPv4, 8080)
	s.cannot(s.client, cluster.OutsideIPv4, 8080)
	s.reach(s.client, "10.96.0.1", 443)
	s.Drop("weftnetworkpolicy api-only -n e2e-street")
	s.policy(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: outside, namespace: e2e-street}
spec:
  endpointSelector: {}
  egress: [{toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.2/32]}]}]
`)
	s.cannot(s.client, "10.96.0.1", 443)
	s.cannot(s.client, cluster.OutsideIPv4, 8080)
	s.Eventually(settle, "let to the router, where nobody listens", func() error {
		if err := s.Connects(s.client, "192.0.2.1", 10250); err == nil || !strings.Contains(err.Error(), "REFUSED") {
			return errors.Join(errors.New("it is not refused there"), err)
		}
		return nil
	})
}

func observe(s *shop) {
	s.T.Helper()
	s.Apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: buyer, namespace: e2e-street}
spec:
  selector: {matchLabels: {app: buyer}}
  template:
    metadata: {labels: {app: buyer}}
    spec:
      nodeName: n1
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: ` + cluster.AgnhostImage + `}]
`)
	s.Kubectl("rollout status deployment/buyer -n e2e-street --timeout=60s")
	name := s.Kubectl("get pods -n e2e-street -l app=buyer -o jsonpath={.items[0].metadata.name}")
	buyer := &pod{Namespace: "e2e-street", Name: name, Node: 1}
	s.policy(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: buyers, namespace: e2e-shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: buyer}}}]}]
`)
	s.cannot(s.client, s.far.IPv4, 9090)
	s.reach(buyer, s.far.IPv4, 9090)
	look := func(args string, parts ...string) {
		s.T.Helper()
		s.Eventually(settle, "seen", func() error { return framework.Wants(s.Shell("weft observe --since 1m "+args), parts...) })
	}
	look("--from-pod e2e-street/client --to-pod e2e-shop/far --verdict dropped", "DROPPED", "e2e-street/client:", "e2e-shop/far:9090",
		"denied by default: NetworkPolicy e2e-shop/buyers isolates ingress")
	look("--from-pod e2e-street/"+name+" --to-pod e2e-shop/far --verdict forwarded", "FORWARDED", "e2e-street/"+name+":", "e2e-shop/far:9090",
		"allowed by NetworkPolicy e2e-shop/buyers ingress[0]")
	look("--from-pod e2e-street/"+name+" --to-pod e2e-shop/far -o json", `"workload":"Deployment/buyer"`, `"node":"n1"`, `"node":"n2"`)
}
