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
