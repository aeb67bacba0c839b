// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"regexp"
	"testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
	"sigs.k8s.io/yaml"
)

func seeds(f *testing.F) {
	for _, spec := range refused() {
		f.Add([]byte(object(spec)))
	}
	f.Add([]byte(object(`{endpointSelector: {matchLabels: {a: b}}, ingress: [{fromEndpoints: [{}]}, {fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], icmps: [{fields: [{type: 8}]}]}]}`)))
	f.Add([]byte(object(`{endpointSelector: {}, egressDeny: [{toEntities: [world], toPorts: [{ports: [{port: "1", endPort: 2, protocol: TCP}]}]}]}`)))
	f.Add([]byte(object(`{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: "1"}]}, {ports: [{port: "80", protocol: TCP}], audit: true, rules: {http: [{path: /a, headers: ["X: y"], headerMatches: [{name: x, value: y, mismatch: ADD}]}]}}]}]}`)))
	f.Add([]byte(object(`{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: ["*.a"]}, {ports: [{port: "80", protocol: TCP}], rules: {grpc: [{service: a.B}]}}]}]}`)))
	f.Add([]byte(cluster(`{endpointSelector: {}, enableDefaultDeny: {egress: false}, egress: [{toCIDR: ["::/0"]}]}`)))
}

// What is accepted is bound and never says more than it was given: no rule
// without ports that had some, no peer that means nothing in particular.
func FuzzFromWeftNetworkPolicy(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var obj v1alpha1.WeftNetworkPolicy
		if yaml.UnmarshalStrict(data, &obj) != nil {
			return
		}
		out, err := v1alpha1.FromWeftNetworkPolicy(&obj)
		if err != nil {
			return
		}
		for _, p := range out {
			if !bound(p.Subject) {
				t.Fatalf("%s is not bound to its namespace", p.Key)
			}
		}
		checkRules(t, out)
	})
}

func FuzzFromWeftClusterNetworkPolicy(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var obj v1alpha1.WeftClusterNetworkPolicy
		if yaml.UnmarshalStrict(data, &obj) != nil {
			return
		}
		out, err := v1alpha1.FromWeftClusterNetworkPolicy(&obj)
		if err == nil {
			checkRules(t, out)
		}
	})
}

func bound(s model.Selector) bool {
	for _, r := range s.Requirements {
		if r.Key == model.LabelNamespace && r.Operator == model.OpIn && len(r.Values) == 1 {
			return true
		}
	}
	return false
}

func checkRules(t *testing.T, policies []model.Policy) {
	t.Helper()
	names := map[string]bool{}
	for _, p := range policies {
		for _, r := range p.Rules {
			if names[r.Name] {
				t.Fatalf("two rules are called %s", r.Name)
			}
			names[r.Name] = true
			if r.Action != model.ActionAllow && r.Action != model.ActionDeny {
				t.Fatalf("rule %s does %s", r.Name, r.Action)
			}
			for _, peer := range r.Peers {
				if !peer.Any && peer.Selector == nil && peer.Entity == "" && !peer.CIDR.IsValid() {
					t.Fatalf("rule %s has an empty peer", r.Name)
				}
				if peer.Any && len(r.Ports) == 0 {
					t.Fatalf("rule %s means everybody and every port", r.Name)
				}
				if peer.CIDR.IsValid() && peer.CIDR != peer.CIDR.Masked() {
					t.Fatalf("rule %s has prefix %s", r.Name, peer.CIDR)
				}
			}
			checkL7(t, r)
			for _, port := range r.Ports {
				if port.First > port.Last || port.Name != "" && port.Last != 0 || port == (model.PortRange{}) {
					t.Fatalf("rule %s has ports %+v", r.Name, port)
				}
			}
		}
	}
}

// checkL7: what asks for more is an allow of ports of TCP, of one kind, and every
// expression is one that stays whole between parentheses.
func checkL7(t *testing.T, r model.Rule) {
	t.Helper()
	if r.L7 == nil {
		return
	}
	kinds := 0
	for _, n := range []int{len(r.L7.HTTP), len(r.L7.GRPC), len(r.L7.ServerNames)} {
		kinds += min(n, 1)
	}
	if kinds != 1 || r.Action != model.ActionAllow || len(r.Ports) == 0 {
		t.Fatalf("rule %s asks for %+v", r.Name, r)
	}
	for _, p := range r.Ports {
		if p.Protocol != model.ProtoTCP {
			t.Fatalf("rule %s asks for more on %+v", r.Name, p)
		}
	}
	for _, h := range r.L7.HTTP {
		for _, e := range []string{h.Method, h.Path, h.Host} {
			if _, err := regexp.Compile("^(?:" + e + ")$"); err != nil {
				t.Fatal(err)
			}
		}
	}
}
