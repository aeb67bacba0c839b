// SPDX-License-Identifier: Apache-2.0

package netpol_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/api/netpol"
	"github.com/weftmesh/weft/pkg/model"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const ownNS = "io.kubernetes.pod.namespace=shop"

func decode(t *testing.T, spec string) (model.Policy, error) {
	t.Helper()
	var obj networkingv1.NetworkPolicy
	text := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec: " + spec
	if err := yaml.UnmarshalStrict([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return netpol.FromNetworkPolicy(&obj)
}

func describe(p model.Policy) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s selects %s isolates %v\n", p.Key, selector(p.Subject), p.Isolate)
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "%s %s %s:", r.Direction, r.Action, r.Name)
		for _, peer := range r.Peers {
			switch {
			case peer.Any:
				b.WriteString(" any")
			case peer.Selector != nil:
				b.WriteString(" " + selector(*peer.Selector))
			default:
				fmt.Fprintf(&b, " %s-%s", peer.CIDR, peer.Except)
			}
		}
		b.WriteString(" on")
		for _, port := range r.Ports {
			fmt.Fprintf(&b, " %d/%s%d-%d", port.Protocol, port.Name, port.First, port.Last)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func selector(s model.Selector) string {
	var out []string
	for _, r := range s.Requirements {
		if r.Source != model.SourceK8s {
			out = append(out, "source "+r.Source)
		}
		out = append(out, r.Key+[]string{"=", "!=", "?", "!?"}[r.Operator]+strings.Join(r.Values, "|"))
	}
	return "{" + strings.Join(out, " ") + "}"
}

func TestConversion(t *testing.T) {
	const head = "NetworkPolicy shop/p selects {" + ownNS + "} isolates "
	for name, test := range map[string]struct{ in, want string }{
		"no rules deny all ingress": {`{podSelector: {}}`, head + "[false true]\n"},
		"egress rules isolate egress": {`{podSelector: {matchLabels: {app: a}}, egress: [{}]}`,
			"NetworkPolicy shop/p selects {app=a " + ownNS + "} isolates [true true]\negress allow egress[0]: any on\n"},
		"types decide":         {`{podSelector: {}, policyTypes: [Egress], ingress: [{}]}`, head + "[true false]\n"},
		"empty lists mean all": {`{podSelector: {}, ingress: [{from: [], ports: []}]}`, head + "[false true]\ningress allow ingress[0]: any on\n"},
		"peers": {`{podSelector: {}, ingress: [{from: [{podSelector: {}}, {podSelector: {matchLabels: {a: b}}}, {namespaceSelector: {}}, ` +
			`{namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}}, {ipBlock: {cidr: 10.1.1.1/8, except: [10.1.0.0/16]}}]}]}`,
			head + "[false true]\ningress allow ingress[0]: {" + ownNS + "} {a=b " + ownNS + "} {} {a!? io.cilium.k8s.namespace.labels.team=x} 10.0.0.0/8-[10.1.0.0/16] on\n"},
		"ports": {`{podSelector: {}, ingress: [{ports: [{}, {port: 80}, {protocol: UDP, port: 10, endPort: 20}, {protocol: SCTP}, {port: http}]}]}`,
			head + "[false true]\ningress allow ingress[0]: any on 6/0-65535 6/80-80 17/10-20 132/0-65535 6/http0-0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(t, test.in)
			if err != nil {
				t.Fatal(err)
			}
			if text := describe(got); text != test.want {
				t.Errorf("got\n%swant\n%s", text, test.want)
			}
		})
	}
}

func TestFaultsAreNamed(t *testing.T) {
	for in, want := range map[string]string{
		`{podSelector: {}, policyTypes: [Both]}`:                                                          `spec.policyTypes[0]: type "Both" is unknown; use Ingress or Egress`,
		`{podSelector: {}, ingress: [{from: [{}]}]}`:                                                      `spec.ingress[0].from[0]: is empty; set podSelector, namespaceSelector or ipBlock`,
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 1.0.0.0/8}, podSelector: {}}]}]}`:              `spec.egress[0].to[0]: combines ipBlock with a selector; write a peer for each`,
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 1.0.0.1}}]}]}`:                                 `spec.egress[0].to[0].ipBlock.cidr: "1.0.0.1" is not a prefix`,
		`{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 1.0.0.0/8, except: [2.0.0.0/8]}}]}]}`:          `spec.egress[0].to[0].ipBlock.except[0]: 2.0.0.0/8 is not inside 1.0.0.0/8`,
		`{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}`:                                       `spec.ingress[0].ports[0].protocol: protocol "ICMP" is unknown; use TCP, UDP or SCTP`,
		`{podSelector: {}, ingress: [{ports: [{port: 0}]}]}`:                                              `spec.ingress[0].ports[0].port: 0 is not a port`,
		`{podSelector: {}, ingress: [{ports: [{port: "80"}]}]}`:                                           `spec.ingress[0].ports[0].port: "80" is a number in quotes; remove the quotes`,
		`{podSelector: {}, ingress: [{ports: [{port: -1}]}]}`:                                             `spec.ingress[0].ports[0]: port "-1" is neither a number`,
		`{podSelector: {}, ingress: [{ports: [{endPort: 5}]}]}`:                                           `spec.ingress[0].ports[0].endPort: needs a port`,
		`{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 5}]}]}`:                                  `endPort 5 is not between port 9 and 65535`,
		`{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 0}]}]}`:                                  `spec.ingress[0].ports[0].endPort: 0 is not a port`,
		`{podSelector: {matchExpressions: [{key: a, operator: In}]}}`:                                     `spec.podSelector.matchExpressions[0]: operator In needs values`,
		`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {"": x}}}]}]}`:             `spec.ingress[0].from[0].namespaceSelector.matchLabels[]: the key is missing`,
		`{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{operator: Exists}]}}]}]}`: `spec.ingress[0].from[0].podSelector.matchExpressions[0]: the key is missing`,
	} {
		got, err := decode(t, in)
		if err == nil {
			t.Errorf("%s: accepted as %s", in, describe(got))
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got\n%v\nwant\n%s", in, err, want)
		}
	}
}

// A rule never says more than it was given.
func FuzzFromNetworkPolicy(f *testing.F) {
	f.Add([]byte(`{metadata: {name: p, namespace: n}, spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 80, endPort: 90}]}]}}`))
	f.Add([]byte(`{metadata: {name: p, namespace: n}, spec: {podSelector: {matchLabels: {a: b}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{protocol: UDP}, {port: http}]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var obj networkingv1.NetworkPolicy
		if yaml.UnmarshalStrict(data, &obj) != nil {
			return
		}
		p, err := netpol.FromNetworkPolicy(&obj)
		if err != nil {
			return
		}
		if !strings.Contains(selector(p.Subject), "io.kubernetes.pod.namespace="+p.Key.Namespace) {
			t.Fatalf("%s is not bound to its namespace", p.Key)
		}
		for _, r := range p.Rules {
			in := obj.Spec.Ingress
			i := strings.Trim(r.Name, "ingres[]")
			var n int
			if _, err := fmt.Sscan(i, &n); err != nil {
				t.Fatal(err)
			}
			var peers, ports int
			if r.Direction == model.Ingress {
				peers, ports = len(in[n].From), len(in[n].Ports)
			} else {
				peers, ports = len(obj.Spec.Egress[n].To), len(obj.Spec.Egress[n].Ports)
			}
			if len(r.Ports) != ports || len(r.Peers) != max(peers, 1) || r.Peers[0].Any != (peers == 0) {
				t.Fatalf("%s: %d peers and %d ports became %+v", r.Name, peers, ports, r)
			}
		}
	})
}
