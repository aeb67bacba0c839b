// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// What kubectl prints of several objects is read as it is.
func TestDecodeList(t *testing.T) {
	data, err := os.ReadFile("testdata/good/list.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, problems := Decode("list.yaml", data)
	var got []string
	for _, o := range objects {
		got = append(got, fmt.Sprintf("%s at %d", o.Key, o.Line))
	}
	want := []string{"Namespace shop at 9", "Pod shop/web at 14", "NetworkPolicy shop/closed at 19", "Pod default/lone at 32"}
	if len(problems) > 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, problems, want)
	}
}

func TestDecodePolicies(t *testing.T) {
	data, err := os.ReadFile("testdata/good/policies.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, problems := Decode("p.yaml", data)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s := build(objects)
	want := []struct {
		key   string
		spec  int
		rules int
	}{
		{"NetworkPolicy default/web", 0, 1},
		{"WeftClusterNetworkPolicy deny-host", 0, 1},
		{"WeftNetworkPolicy shop/backend", 0, 1},
		{"WeftNetworkPolicy shop/backend", 1, 2},
	}
	if len(s.Policies) != len(want) {
		t.Fatalf("got %d policies", len(s.Policies))
	}
	for i, w := range want {
		p := s.Policies[i]
		if p.Key.String() != w.key || p.Spec != w.spec || len(p.Rules) != w.rules || p.Source != "p.yaml" {
			t.Errorf("policy %d: got %+v, want %+v", i, p, w)
		}
	}
	if len(s.Namespaces) != 2 || s.Namespaces[1].Name != "shop" {
		t.Errorf("namespaces: %v", s.Namespaces)
	}
}
