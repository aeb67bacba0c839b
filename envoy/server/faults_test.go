// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// While an agent starts, or no proxy is there, it is not known what proxies refuse.
func TestFaultsAreSettledWhenProxiesHaveAnswered(t *testing.T) {
	s := New(xds.Options{}, filepath.Join(t.TempDir(), "last"), slog.New(slog.DiscardHandler))
	settled := func(what string, want bool) {
		t.Helper()
		if got := s.Settled(); got != want {
			t.Errorf("%s: settled is %v", what, got)
		}
	}
	settled("before it is known what is wanted", false)
	s.Update(model.Rulesets{Revision: 1})
	settled("nothing is wanted", true)
	changed := s.Changed()
	s.Update(model.Rulesets{Revision: 2, List: []model.Ruleset{{ID: 7, Rules: []model.RulesetRule{{
		Policy: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "shop", Name: "p"}, Name: "ingress[0]", L7: model.L7{HTTP: []model.HTTPRule{{}}}}}}}})
	settled("no proxy is there", false)
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the change")
	}
}

// What a proxy refuses of a pair is put to the policies of both its rulesets.
func TestBothPoliciesOfAPairAreBlamed(t *testing.T) {
	of := func(name string) model.Ruleset {
		return model.Ruleset{Rules: []model.RulesetRule{{Policy: model.PolicyKey{Kind: "k", Name: name}}}}
	}
	pair, then := of("first"), of("then")
	pair.ID, pair.Then = 5, &then
	got := blame(pair, "text")
	if len(got) != 2 || got[0].Policy.Name != "first" || got[1].Policy.Name != "then" || got[0].Ruleset != 5 || got[1].Ruleset != 5 {
		t.Errorf("blamed are %+v", got)
	}
}
