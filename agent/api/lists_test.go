// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// A policy with a fault is there: in force as it last was, or not at all.
func TestPoliciesWithFaultsAreListed(t *testing.T) {
	key := func(name string) model.PolicyKey {
		return model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: name}
	}
	policy := func(name string) engine.PolicyView {
		return engine.PolicyView{Policy: model.Policy{Key: key(name), Source: "kubernetes", Rules: make([]model.Rule, 2)}}
	}
	s := New(Config{
		View: func() *engine.View {
			return &engine.View{Revision: 7, Policies: []engine.PolicyView{policy("good"), policy("edited")}}
		},
		PolicyFaults: func() map[model.PolicyKey]PolicyFault {
			return map[model.PolicyKey]PolicyFault{
				key("edited"): {Source: "kubernetes", Message: "what it said last stays in force: wrong"},
				key("never"):  {Source: "kubernetes", Message: "nothing of it is in force: wrong"},
				key("ever"):   {Source: "kubernetes", Message: "nothing of it is in force: bad"},
			}
		},
	})
	got, err := s.ListPolicies(t.Context(), &agentv1.ListPoliciesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range got.GetPolicies() {
		lines = append(lines, fmt.Sprintf("%s/%s %d %d %s %s", p.GetNamespace(), p.GetName(), p.GetRules(), p.GetRevision(), p.GetSource(), p.GetMessage()))
	}
	want := []string{
		"demo/good 2 7 kubernetes ",
		"demo/edited 2 7 kubernetes what it said last stays in force: wrong",
		"demo/ever 0 0 kubernetes nothing of it is in force: bad",
		"demo/never 0 0 kubernetes nothing of it is in force: wrong",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%q, want\n%q", lines, want)
	}
}
