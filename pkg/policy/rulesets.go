// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// rulesets collects those that the entries of one result name.
type rulesets struct {
	places map[string]model.RulesetID // by the rules' places, of one direction
	list   []model.Ruleset            // by place, from 1
}

// of is the place of a ruleset made of some of the rules, 0 for none. What would be
// one too many for its number names a place that no list has: it is refused there.
func (s *rulesets) of(rules []*compiledRule, l7 []int) model.RulesetID {
	if len(l7) == 0 {
		return 0
	}
	key := []byte{byte(rules[l7[0]].src.Direction)}
	for _, i := range l7 {
		key = binary.BigEndian.AppendUint32(key, uint32(i))
	}
	if id, ok := s.places[string(key)]; ok {
		return id
	}
	if len(s.list) == math.MaxUint16-1 {
		return math.MaxUint16
	}
	s.list = append(s.list, ruleset(rules, l7))
	if s.places == nil {
		s.places = make(map[string]model.RulesetID)
	}
	id := model.RulesetID(len(s.list))
	s.places[string(key)] = id
	return id
}

func ruleset(rules []*compiledRule, l7 []int) model.Ruleset {
	out := model.Ruleset{Audit: true}
	for _, i := range l7 {
		r := rules[i]
		out.Rules = append(out.Rules, model.RulesetRule{Policy: r.key, Name: r.src.Name, L7: *r.src.L7, Direction: r.src.Direction})
		out.Audit = out.Audit && r.src.L7.Audit // one alone must not undo what others enforce
	}
	slices.SortFunc(out.Rules, compareOrigins)
	return out
}

// number sorts the list by origins, and changes the entries with it.
func (s *rulesets) number(entries []model.PolicyEntry) []model.Ruleset {
	if len(s.list) == 0 {
		return nil
	}
	for i := range s.list {
		s.list[i].ID = model.RulesetID(i + 1)
	}
	slices.SortFunc(s.list, CompareRulesets)
	moved := make(map[model.RulesetID]model.RulesetID, len(s.list))
	for i := range s.list {
		now := model.RulesetID(i + 1)
		moved[s.list[i].ID], s.list[i].ID = now, now
	}
	for i := range entries {
		if now, ok := moved[entries[i].Ruleset]; ok {
			entries[i].Ruleset = now
		}
	}
	return s.list
}

// CompareRulesets orders rulesets by their origins: the rules that they are made of.
func CompareRulesets(a, b model.Ruleset) int {
	return slices.CompareFunc(a.Rules, b.Rules, compareOrigins)
}

func compareOrigins(a, b model.RulesetRule) int {
	return cmp.Or(ComparePolicyKeys(a.Policy, b.Policy), cmp.Compare(a.Name, b.Name))
}
