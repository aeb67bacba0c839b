// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// shop has servers beside the clients and on the other node, and clients of which each
// may ask for something else at the same port: /clientip says who asks, /hostname who
// answers.
type shop struct {
	*world
	namespace string
	near, far *pod
	a, b, c   *pod // may ask for /clientip, for /hostname, for nothing
	d         *pod // may ask for anything, with no rule about requests
	service   [2]string
}

// rules of the servers. From nodes comes what their own programs ask for.
const rules = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: servers, namespace: NS}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /clientip}]}}]
  - fromEndpoints: [{matchLabels: {role: b}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /hostname}]}}]
  - fromEndpoints: [{matchLabels: {role: d}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
  - fromEntities: [remote-node]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /clientip}]}}]
`

func TestRequests(t *testing.T) {
	whole := newShop(t)
	t.Run("each client gets what its rule allows", func(t *testing.T) { whole.in(t).eachClient(t) })
	for _, test := range []struct {
		name string
		run  func(*shop)
	}{
		{"a program of a node is a client", (*shop).nodeProgram},
		{"only what a rule is about touches Envoy", (*shop).touches},
		{"what the proxy does not take is told at the policy", (*shop).told},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(whole.in(t)) })
	}
}

// in is the same shop in a part of the test.
func (s *shop) in(t *testing.T) *shop {
	part := *s
	part.world = &world{s.In(t)}
	return &part
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{world: installed(t), namespace: "l7-shop"}
	s.Namespace(s.namespace, "")
	one := func(name string, node int, role string) *pod {
		return &pod{Namespace: s.namespace, Name: name, Node: node, Labels: "role: " + role}
	}
	s.near, s.far = one("near", 1, "server"), one("far", 2, "server")
	s.a, s.b, s.c = one("a", 1, "a"), one("b", 1, "b"), one("c", 1, "c")
	s.d = one("d", 1, "d")
	s.Make(s.near, s.far, s.a, s.b, s.c, s.d)
	s.service = s.world.service(s.namespace, 8080)
	s.Apply(strings.ReplaceAll(rules, "NS", s.namespace))
	s.Shell("weft status --wait --timeout 60s")
	return s
}

// eachClient: three clients ask at the same port, on the same node and on another, over both families
// and through a Service: each gets what its rule allows, and the server sees who asks.
func (s *shop) eachClient(t *testing.T) {
	t.Helper()
	for family, name := range []string{"IPv4", "IPv6"} {
		for _, to := range []struct{ name, host string }{
			{"near", s.near.IPs()[family]}, {"far", s.far.IPs()[family]}, {"service", s.service[family]},
		} {
			t.Run(name+" "+to.name, func(t *testing.T) { s.in(t).each(family, to.host) })
		}
	}
}

func (s *shop) each(family int, host string) {
	s.T.Helper()
	s.Eventually(settle, "a's request allowed", func() error {
		out, err := s.fetch(s.a, url(host, 8080, "/clientip"))
		if err != nil {
			return err
		}
		if from, _, _ := net.SplitHostPort(out); from != s.a.IPs()[family] {
			return fmt.Errorf("the server sees %q, not %s", out, s.a.IPs()[family])
		}
		return nil
	})
	s.Eventually(settle, "b's request allowed", func() error {
		out, err := s.fetch(s.b, url(host, 8080, "/hostname"))
		if err == nil && out != "near" && out != "far" {
			err = fmt.Errorf("it is %q that answers", out)
		}
		return err
	})
	s.denied(s.a, url(host, 8080, "/hostname"))
	s.denied(s.b, url(host, 8080, "/clientip"))
	s.denied(s.b, url(host, 8080, "/hostname/../clientip"))
	if err := s.Isolated(s.c, host, 8080); err != nil {
		s.T.Errorf("c, whom no rule is about, is not kept out: %v", err)
	}
}

// denied must be a request, by the proxy, which names the policy.
func (s *shop) denied(from *pod, url string) {
	s.T.Helper()
	if out, err := s.fetch(from, url); err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
		s.T.Errorf("%s asks for %s and gets %q, %v", from.Name, url, out, err)
	}
	out, err := s.Exec(from, "/programs/traffic ask '"+url+"'")
	if err := errors.Join(err, framework.Wants(out, "denied by policy: WeftNetworkPolicy "+s.namespace+"/servers")); err != nil {
		s.T.Errorf("%s asks for %s: %v", from.Name, url, err)
	}
}

// nodeProgram: a program of a node asks a pod of another node, in the node's own network.
func (s *shop) nodeProgram() {
	for _, host := range s.near.IPs() {
		s.Eventually(settle, "the node's request allowed", func() error {
			out, err := s.Node(2).Run(s.T.Context(), s.Program("traffic")+" ask "+url(host, 8080, "/clientip"))
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if from, _, _ := net.SplitHostPort(out); from != s.Node(2).IPv4() && from != s.Node(2).IPv6() {
				return fmt.Errorf("the server sees %q, not the node", out)
			}
			return nil
		})
		out := s.On(2, s.Program("traffic")+" ask "+url(host, 8080, "/hostname"))
		if err := framework.Wants(out, "denied by policy: WeftNetworkPolicy "+s.namespace+"/servers"); err != nil {
			s.T.Error(err)
		}
	}
}

// What a pod may ask of the outside is decided at the pod; the outside sees the node.
func TestWhatAPodAsksOfTheOutside(t *testing.T) {
	w := installed(t)
	const namespace = "l7-out"
	w.Namespace(namespace, "")
	p := &pod{Namespace: namespace, Name: "client", Node: 2, Labels: "role: client"}
	w.Make(p)
	w.Apply(fmt.Sprintf(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: out, namespace: %s}
spec:
  endpointSelector: {}
  egress:
  - toCIDR: [%s/32]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET, path: /clientip}]}}]
`, namespace, cluster.OutsideIPv4))
	w.Eventually(settle, "asked through the proxy", func() error {
		out, err := w.Exec(p, "/programs/traffic ask "+url(cluster.OutsideIPv4, 8080, "/hostname"))
		return errors.Join(err, framework.Wants(out, "denied by policy: WeftNetworkPolicy "+namespace+"/out"))
	})
	out, err := w.fetch(p, url(cluster.OutsideIPv4, 8080, "/clientip"))
	if host, _, _ := net.SplitHostPort(out); err != nil || host != w.Node(2).IPv4() {
		t.Errorf("the pod is seen as %q, %v", out, err)
	}
}

// A call of gRPC, to a server that is not ours, by service and method.
func TestCallsOfGRPC(t *testing.T) {
	w := installed(t)
	const namespace = "l7-grpc"
	w.Namespace(namespace, "")
	server := &pod{Namespace: namespace, Name: "server", Node: 2, Labels: "role: server", Command: []string{"/agnhost", "grpc-health-checking"}}
	client := &pod{Namespace: namespace, Name: "client", Node: 1, Labels: "role: client"}
	w.Make(server, client)
	policy := func(method string) {
		w.Apply(fmt.Sprintf(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: calls, namespace: %s}
spec:
  endpointSelector: {matchLabels: {role: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: client}}]
    toPorts: [{ports: [{port: "5000", protocol: TCP}], rules: {grpc: [{service: grpc.health.v1.Health, method: %s}]}}]
`, namespace, method))
	}
	called := func(family int, what string, parts ...string) {
		t.Helper()
		w.Eventually(settle, what, func() error {
			out, err := w.Exec(client, "/programs/traffic health "+net.JoinHostPort(server.IPs()[family], "5000"))
			return errors.Join(err, framework.Wants(out, parts...))
		})
	}
	for family := range server.IPs() {
		policy("Check")
		called(family, "allowed", "0 ")
		policy("Watch")
		called(family, "denied", "7 ", "denied by policy: WeftNetworkPolicy "+namespace+"/calls")
	}
}

// told: what a proxy cannot be told becomes the policy's condition, and goes with its reason;
// the policy's other rules and other policies stay in force.
func (s *shop) told() {
	var odd []string
	for i := range 6 { // more than can be told apart
		odd = append(odd, fmt.Sprintf("{name: x-%d, value: v, mismatch: LOG}", i))
	}
	policy := func(headers string) {
		s.Apply(fmt.Sprintf(`
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: odd, namespace: %s}
spec:
  endpointSelector: {matchLabels: {role: c}}
  ingress:
  - fromEndpoints: [{matchLabels: {role: a}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /hostname}]}}, {ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /clientip, headerMatches: [%s]}]}}]
`, s.namespace, headers))
	}
	policy(strings.Join(odd, ", "))
	condition := func() error {
		out := s.Kubectl("get wnp odd -n " + s.namespace + " -o jsonpath={.status.conditions[0].status}/{.status.conditions[0].reason}/{.status.conditions[0].message}")
		return framework.Wants(out, "False/RefusedByProxy/", "on n1: ", "6 headers")
	}
	s.T.Logf("told after %v", s.Eventually(settle, "told", condition).Round(100*time.Millisecond))
	if _, err := s.fetch(s.a, url(s.near.IPv4, 8080, "/clientip")); err != nil {
		s.T.Errorf("another policy is not in force: %v", err)
	}
	if _, err := s.fetch(s.a, url(s.c.IPv4, 8080, "/hostname")); err != nil {
		s.T.Errorf("the policy's other rule is not in force: %v", err)
	}
	if out, err := s.fetch(s.a, url(s.c.IPv4, 8080, "/clientip")); err == nil {
		s.T.Errorf("the rule with a fault let pass: %s", out)
	}
	policy(odd[0])
	s.Kubectl("wait --for=condition=Valid wnp odd -n " + s.namespace + " --timeout=30s")
	s.Eventually(settle, "allowed", func() error { _, err := s.fetch(s.a, url(s.c.IPv4, 8080, "/clientip")); return err })
}
