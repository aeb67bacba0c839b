// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
	"sigs.k8s.io/yaml"
)

// decode reads one object, strictly, and converts it.
func decode(t *testing.T, text string) ([]model.Policy, error) {
	t.Helper()
	var head struct {
		Kind string `json:"kind"`
	}
	if err := yaml.Unmarshal([]byte(text), &head); err != nil {
		t.Fatal(err)
	}
	if head.Kind == v1alpha1.KindClusterNetworkPolicy {
		var obj v1alpha1.WeftClusterNetworkPolicy
		if err := yaml.UnmarshalStrict([]byte(text), &obj); err != nil {
			t.Fatal(err)
		}
		return v1alpha1.FromWeftClusterNetworkPolicy(&obj)
	}
	var obj v1alpha1.WeftNetworkPolicy
	if err := yaml.UnmarshalStrict([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return v1alpha1.FromWeftNetworkPolicy(&obj)
}

// describe writes policies as a test reads them.
func describe(policies []model.Policy) string {
	var b strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&b, "%s #%d selects %s", p.Key, p.Spec, selector(p.Subject))
		for d, name := range []string{"egress", "ingress"} {
			if p.Isolate[d] {
				b.WriteString(", isolates " + name)
			}
		}
		b.WriteString("\n")
		for _, r := range p.Rules {
			fmt.Fprintf(&b, "%s: %s %s %s%s\n", r.Name, r.Action, peers(r.Peers), ports(r.Ports), l7(r.L7))
		}
	}
	return b.String()
}

func selector(s model.Selector) string {
	var out []string
	for _, r := range s.Requirements {
		op := []string{"=", "!=", "?", "!?"}[r.Operator]
		out = append(out, r.Source+":"+r.Key+op+strings.Join(r.Values, "|"))
	}
	return "{" + strings.Join(out, " ") + "}"
}

func peers(list []model.Peer) string {
	var out []string
	for _, p := range list {
		switch {
		case p.Any:
			out = append(out, "any")
		case p.Selector != nil:
			out = append(out, selector(*p.Selector))
		case p.Entity != "":
			out = append(out, p.Entity)
		default:
			s := p.CIDR.String()
			for _, x := range p.Except {
				s += "-" + x.String()
			}
			out = append(out, s)
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

func ports(list []model.PortRange) string {
	var out []string
	for _, p := range list {
		if p.Name != "" {
			out = append(out, fmt.Sprintf("%d/%s", p.Protocol, p.Name))
		} else {
			out = append(out, fmt.Sprintf("%d/%d-%d", p.Protocol, p.First, p.Last))
		}
	}
	return "[" + strings.Join(out, " ") + "]"
}

func l7(r *model.L7) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf(" %+v", *r)
}
