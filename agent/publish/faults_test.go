// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

func policy(name string) model.PolicyKey {
	return model.PolicyKey{Kind: v1alpha1.KindNetworkPolicy, Namespace: "shop", Name: name}
}

func TestOfFaultsEachPolicyIsToldOnceWhateverTheirOrder(t *testing.T) {
	list := []Fault{{policy("b"), "no such header"}, {policy("a"), "second"}, {policy("a"), "first"}, {policy("a"), "second"}, {model.PolicyKey{}, "of nobody"}}
	want := []v1alpha1.ProxyFault{
		{Kind: v1alpha1.KindNetworkPolicy, Namespace: "shop", Name: "a", Message: "first; second"},
		{Kind: v1alpha1.KindNetworkPolicy, Namespace: "shop", Name: "b", Message: "no such header"},
	}
	for range len(list) {
		if got := toTell(list); !slices.Equal(got, want) {
			t.Errorf("%v gives %v", list, got)
		}
		list = append(list[1:], list[0])
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var list []Fault
	for i := range 100 {
		list = append(list, Fault{policy(fmt.Sprintf("p%02d", i)), strings.Repeat("é", 1000)})
	}
	got := toTell(list)
	if len(got) != v1alpha1.MaxProxyFaults || got[0].Name != "p00" {
		t.Errorf("%d faults, the first of %s", len(got), got[0].Name)
	}
	if m := got[0].Message; len(m) > v1alpha1.MaxFaultMessage || !utf8.ValidString(m) || !strings.HasSuffix(m, "é…") {
		t.Errorf("a message of %d bytes: %q", len(m), m)
	}
}

// While the proxy has not answered, what was told stands; the same again is no write.
func TestTheNodeTellsItsProxysFaults(t *testing.T) {
	api := newAPIServer(t)
	list, known := []Fault{{policy("a"), "bad"}}, true
	n := NewNode(NodeConfig{Node: "n", Nodes: api.nodes, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Faults: func() ([]Fault, bool) { return list, known }})
	tell := func(writes, faults int) {
		t.Helper()
		api.ClearActions()
		if err := n.tell(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		node, err := api.nodes.Get(t.Context(), "n", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := api.writes(); got != writes || len(node.Status.ProxyFaults) != faults {
			t.Errorf("%d writes, want %d; faults %v", got, writes, node.Status.ProxyFaults)
		}
	}
	tell(1, 1)
	tell(0, 1)
	list, known = nil, false
	tell(0, 1)
	known = true
	tell(1, 0)
}
