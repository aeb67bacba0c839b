// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"pgregory.net/rapid"
)

// checkRows tells what must hold of every set: one row a key, no bits behind
// the length, no row without a meaning.
func checkRows(t *rapid.T, entries []model.PolicyEntry) {
	t.Helper()
	type key struct {
		d    model.Direction
		peer model.IdentityID
		prot uint8
		port uint16
		bits uint8
	}
	if !slices.IsSortedFunc(entries, model.CompareEntries) {
		t.Fatalf("entries are not in order: %+v", entries)
	}
	seen := map[key]bool{}
	for _, e := range entries {
		k := key{e.Direction, e.Peer, e.Protocol, e.Port, e.PortBits}
		if seen[k] {
			t.Fatalf("two rows for %+v", k)
		}
		seen[k] = true
		if e.PortBits < 16 && e.Port<<e.PortBits != 0 || e.PortBits > 16 {
			t.Fatalf("row %+v has bits behind its length", e)
		}
		if e.Protocol == 0 && e.PortBits != 0 || e.Action == model.ActionNone || e.Precedence == 0 || e.Rule == 0 {
			t.Fatalf("row %+v has no meaning", e)
		}
	}
}

// checkRulesets tells what must hold of a result's rulesets: they are in order, each
// once, each is named by an entry and none else is.
func checkRulesets(t *rapid.T, res policy.Result) {
	t.Helper()
	named := map[model.RulesetID]bool{0: true}
	for _, e := range res.Set.Entries {
		named[e.Ruleset] = true
		if e.Ruleset != 0 && (e.Action != model.ActionAllow || e.Protocol != model.ProtoTCP) {
			t.Fatalf("row %+v has a ruleset", e)
		}
	}
	for i, r := range res.Rulesets {
		if int(r.ID) != i+1 || !named[r.ID] || len(r.Rules) == 0 || i > 0 && policy.CompareRulesets(res.Rulesets[i-1], r) >= 0 {
			t.Fatalf("ruleset %+v at place %d", r, i)
		}
	}
	if len(named) != len(res.Rulesets)+1 {
		t.Fatalf("entries name %v of %d rulesets", named, len(res.Rulesets))
	}
}

func label(key, value string) model.Label {
	return model.Label{Source: model.SourceK8s, Key: key, Value: value}
}
