// SPDX-License-Identifier: Apache-2.0

package rulesets

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// MaxPairs is how many pairs connections of a node may get: each is a listener more, and
// what has none passes the proxy twice.
const MaxPairs = 64

// Pair is two rulesets that one pass through the proxy enforces on connections that both
// are for.
type Pair struct {
	ID          model.RulesetID
	First, Then model.RulesetID // that of egress, that of ingress
	Retired     bool            // connections that begin do not get it
}

// of are its rulesets.
func (p Pair) of() [2]model.RulesetID { return [2]model.RulesetID{p.First, p.Then} }

// Pairs lists all pairs by number.
func (b Book) Pairs() []Pair {
	return slices.SortedFunc(maps.Values(b.pairs), func(a, b Pair) int { return cmp.Compare(a.ID, b.ID) })
}

// Pair is what a number stands for, if it is that of a pair.
func (b Book) Pair(id model.RulesetID) (Pair, bool) {
	p, ok := b.pairs[id]
	return p, ok
}

// WithPairs is the book with pairs for those rulesets that meet and go together, those of
// the smallest numbers if there are too many. All others are retired. wanted is how many
// rulesets entries are to name.
func (b Book) WithPairs(meet [][2]model.RulesetID, wanted int) Book {
	next := Book{rows: b.rows, pairs: make(map[model.RulesetID]Pair, len(b.pairs))}
	has := make(map[[2]model.RulesetID]model.RulesetID, len(b.pairs))
	for id, p := range b.pairs {
		p.Retired = true
		next.pairs[id], has[p.of()] = p, id
	}
	used := b.numbers()
	for _, of := range b.together(meet, wanted) {
		id := has[of]
		if id == 0 {
			if len(used) >= model.MaxRulesets-MaxPairs { // what is left is for others
				continue
			}
			id = unused(Key(b.rows[of[0]].Own)+"+"+Key(b.rows[of[1]].Own), used)
		}
		next.pairs[id] = Pair{ID: id, First: of[0], Then: of[1]}
	}
	return next
}

// together are those that may be pairs. Where rulesets need all numbers there are none.
func (b Book) together(meet [][2]model.RulesetID, wanted int) (out [][2]model.RulesetID) {
	if max(wanted, len(b.rows)) > model.MaxRulesets-MaxPairs {
		return nil
	}
	for _, of := range meet {
		if asksHTTP(b.rows[of[0]]) && asksHTTP(b.rows[of[1]]) {
			out = append(out, of)
		}
	}
	slices.SortFunc(out, func(a, b [2]model.RulesetID) int { return slices.Compare(a[:], b[:]) })
	out = slices.Compact(out)
	return out[:min(len(out), MaxPairs)]
}

// asksHTTP tells whether all that a ruleset asks is about requests: of TLS the proxy sees
// the begin only.
func asksHTTP(r Row) bool {
	return r.Own.ID != 0 && !r.Retired && !slices.ContainsFunc(r.Own.Rules, func(r model.RulesetRule) bool { return len(r.L7.ServerNames) > 0 })
}

// End is an endpoint: who it is, and what holds for it.
type End struct {
	Identity model.IdentityID
	Set      model.PolicySet
}

// Meet are the rulesets of egress and of ingress that some connection between two of the
// endpoints, or two of their kind, would have both. They are sorted.
func Meet(ends []End) [][2]model.RulesetID {
	from, to := sides(ends, model.Egress), sides(ends, model.Ingress)
	met := make(map[[2]model.RulesetID]bool)
	asked := make(map[meeting]bool) // most are alike
	for _, x := range from {
		for _, y := range to {
			m := meeting{from: x.Set.Hash, to: y.Set.Hash}
			if len(x.entries[side{model.Egress, y.Identity}]) > 0 {
				m.receiver = y.Identity
			}
			if len(y.entries[side{model.Ingress, x.Identity}]) > 0 {
				m.sender = x.Identity
			}
			if !asked[m] {
				asked[m] = true
				m.find(x.table, y.table, met)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(met), func(a, b [2]model.RulesetID) int { return slices.Compare(a[:], b[:]) })
}

// meeting is what decides of what two endpoints ask: their sets, and who they are where
// the other's set says something of that.
type meeting struct {
	from, to         model.SetHash
	sender, receiver model.IdentityID
}

// find notes the rulesets that are both asked at some port.
func (m meeting) find(x, y table, met map[[2]model.RulesetID]bool) {
	out := [][]model.PolicyEntry{x.entries[side{model.Egress, model.IdentityNone}], x.entries[side{model.Egress, m.receiver}]}
	in := [][]model.PolicyEntry{y.entries[side{model.Ingress, model.IdentityNone}], y.entries[side{model.Ingress, m.sender}]}
	for _, e := range slices.Concat(out...) {
		if e.Ruleset == 0 {
			continue
		}
		first, last := span(e)
		for _, port := range stretches(first, last, append(out, in...)...) {
			a := x.lookup(model.Egress, m.receiver, port)
			b := y.lookup(model.Ingress, m.sender, port)
			if a.Ruleset != 0 && b.Ruleset != 0 {
				met[[2]model.RulesetID{a.Ruleset, b.Ruleset}] = true
			}
		}
	}
}

// sideEnd is an endpoint of which rulesets are asked in a direction.
type sideEnd struct {
	End
	table
}

func sides(ends []End, d model.Direction) (out []sideEnd) {
	type kind struct {
		id  model.IdentityID
		set model.SetHash
	}
	seen, tables := make(map[kind]bool), make(map[model.SetHash]table)
	for _, e := range ends {
		k := kind{e.Identity, e.Set.Hash}
		if seen[k] || !slices.ContainsFunc(e.Set.Entries, func(p model.PolicyEntry) bool { return p.Ruleset != 0 && p.Direction == d }) {
			continue
		}
		seen[k] = true
		t, ok := tables[e.Set.Hash]
		if !ok {
			t = index(Holder{Set: e.Set})
			tables[e.Set.Hash] = t
		}
		out = append(out, sideEnd{e, t})
	}
	return out
}
