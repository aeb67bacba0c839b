// SPDX-License-Identifier: Apache-2.0

package rulesets

import (
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
)

// Holder is what holds for the connections of an endpoint.
type Holder struct {
	Isolated [2]bool // by model.Direction
	Set      model.PolicySet
}

// Change is what is in force, and what is to be, by the numbers of endpoints.
type Change struct{ Before, Now map[uint32]Holder }

// Next is the book when entries are as a change says. want are the rulesets that they
// name, numbers their numbers.
func (b Book) Next(want []model.Ruleset, numbers Numbers, change Change) Book {
	next := Book{rows: maps.Clone(b.rows), pairs: b.pairs}
	if next.rows == nil {
		next.rows = make(map[model.RulesetID]Row, len(want))
	}
	live := make(map[model.RulesetID]bool, len(want))
	for _, r := range want {
		id := numbers[Key(r)]
		if id == 0 {
			continue
		}
		live[id] = true
		row := Row{Own: r}
		if old := next.rows[id]; !old.Retired { // what it led to while it was is over
			row.As = old.As
		}
		row.Own.ID = id
		next.rows[id] = row
	}
	followed := follow(change)
	for id, row := range next.rows {
		if live[id] {
			continue
		}
		if o, ok := followed[id]; ok {
			row.As, row.Open, row.Refused = o.as(id), o.open(), o.refused
		}
		row.Retired = true
		next.rows[id] = row
	}
	for id := range live { // when it is known which are retired
		row := next.rows[id]
		row.As = widened(row, next, followed[id].to)
		next.rows[id] = row
	}
	return next
}

// widened is a ruleset whose rules are those of a live one and more, and that some
// entries name now that named the live one: their connections may go on, as what passes
// would pass there, and in the same way. Else it is what it was, if that holds still.
func widened(row Row, b Book, to map[model.RulesetID]bool) model.RulesetID {
	wider := func(id model.RulesetID) bool {
		other, ok := b.rows[id]
		return ok && id != row.Own.ID && !other.Retired && (!row.Own.Audit || other.Own.Audit) &&
			!slices.ContainsFunc(row.Own.Rules, func(r model.RulesetRule) bool { return !hasRule(other.Own, r) }) &&
			!slices.ContainsFunc(other.Own.Rules, func(o model.RulesetRule) bool { return o.L7.ChangesHeaders() && !hasRule(row.Own, o) })
	}
	for _, id := range slices.Sorted(maps.Keys(to)) {
		if id != 0 && wider(id) {
			return id
		}
	}
	if wider(row.As) {
		return row.As
	}
	return 0
}

// hasRule tells whether a ruleset has a rule of that policy and place.
func hasRule(rs model.Ruleset, rule model.RulesetRule) bool {
	return slices.ContainsFunc(rs.Rules, func(o model.RulesetRule) bool { return o.Policy == rule.Policy && o.Name == rule.Name })
}

// outcome is what is said now of the connections that had a number.
type outcome struct {
	to      map[model.RulesetID]bool // the rulesets they would have; 0: they pass without one
	refused bool                     // some would not pass
}

// as is the one ruleset that all of those that pass would have.
func (o outcome) as(id model.RulesetID) model.RulesetID {
	if len(o.to) == 1 {
		for only := range o.to {
			if only != id {
				return only
			}
		}
	}
	return 0
}

// open tells that they pass, and all of them without a proxy.
func (o outcome) open() bool { return len(o.to) == 1 && o.to[0] }

// follow tells of every number that entries had what entries say now, in their place,
// of the same peers and ports.
func follow(c Change) map[model.RulesetID]outcome {
	out := make(map[model.RulesetID]outcome)
	type pair struct {
		before, now model.SetHash
		isolated    [2]bool
	}
	done := make(map[pair]bool) // endpoints share what they hold
	for id, before := range c.Before {
		now, ok := c.Now[id]
		p := pair{before.Set.Hash, now.Set.Hash, now.Isolated}
		if !ok || done[p] || p.before == p.now && before.Isolated == now.Isolated {
			continue // gone, as its connections are, or nothing has changed
		}
		done[p] = true
		table := index(now)
		for _, e := range before.Set.Entries {
			if e.Ruleset == 0 {
				continue
			}
			o, ok := out[e.Ruleset]
			if !ok {
				o.to = make(map[model.RulesetID]bool)
			}
			table.follow(e, &o)
			out[e.Ruleset] = o
		}
	}
	return out
}

// side is one direction and one peer.
type side struct {
	direction model.Direction
	peer      model.IdentityID
}

// table is what holds for an endpoint, ready to be looked up.
type table struct {
	isolated [2]bool
	entries  map[side][]model.PolicyEntry
}

func index(h Holder) table {
	t := table{isolated: h.Isolated, entries: make(map[side][]model.PolicyEntry)}
	for _, e := range h.Set.Entries {
		if e.Protocol == 0 || e.Protocol == model.ProtoTCP {
			s := side{e.Direction, e.Peer}
			t.entries[s] = append(t.entries[s], e)
		}
	}
	return t
}

// follow notes what is said of an entry's peers and ports. What is said of everybody's
// is asked of everyone of whom something else may be said.
func (t table) follow(e model.PolicyEntry, o *outcome) {
	peers := []model.IdentityID{e.Peer}
	if e.Peer == model.IdentityNone {
		for s := range t.entries {
			if s.direction == e.Direction && s.peer != model.IdentityNone {
				peers = append(peers, s.peer)
			}
		}
	}
	for _, peer := range peers {
		for _, port := range t.ports(e, peer) {
			switch now := t.lookup(e.Direction, peer, port); {
			case now.Action == model.ActionAllow:
				o.to[now.Ruleset] = true
			case now.Action == model.ActionNone && !t.isolated[e.Direction&1], now.Action == model.ActionAudit:
				o.to[0] = true
			default:
				o.refused = true
			}
		}
	}
}

// ports are one of each stretch of an entry's ports of which one thing is said.
func (t table) ports(e model.PolicyEntry, peer model.IdentityID) []uint16 {
	first, last := span(e)
	return stretches(first, last, t.entries[side{e.Direction, peer}], t.entries[side{e.Direction, model.IdentityNone}])
}

// stretches are the first ports of those parts of a range of which entries say one thing.
func stretches(first, last uint16, said ...[]model.PolicyEntry) []uint16 {
	out := []uint16{first}
	for _, entries := range said {
		for _, now := range entries {
			begin, end := span(now)
			if begin > first && begin <= last {
				out = append(out, begin)
			}
			if end >= first && end < last {
				out = append(out, end+1)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func span(e model.PolicyEntry) (first, last uint16) {
	bits := e.PortBits
	if e.Protocol == 0 {
		bits = 0
	}
	return e.Port, e.Port | uint16(1<<(16-bits)-1)
}

// lookup is what the kernel does.
func (t table) lookup(d model.Direction, peer model.IdentityID, port uint16) model.PolicyEntry {
	a, b := t.longest(side{d, peer}, port), t.longest(side{d, model.IdentityNone}, port)
	if b.Precedence > a.Precedence {
		return b
	}
	return a
}

func (t table) longest(s side, port uint16) (best model.PolicyEntry) {
	length := -1
	for _, e := range t.entries[s] {
		n := 0
		if e.Protocol != 0 {
			n = 8 + int(e.PortBits)
		}
		if first, last := span(e); first <= port && port <= last && n > length {
			best, length = e, n
		}
	}
	return best
}

// InForce rewrites entries to the numbers of rulesets. An entry whose ruleset has no
// number refuses, and is no stronger than it was.
func InForce(res policy.Result, numbers Numbers) []model.PolicyEntry {
	if !slices.ContainsFunc(res.Set.Entries, func(e model.PolicyEntry) bool { return e.Ruleset != 0 }) {
		return res.Set.Entries
	}
	out := slices.Clone(res.Set.Entries)
	for i := range out {
		e := &out[i]
		if e.Ruleset == 0 {
			continue
		}
		place := int(e.Ruleset) - 1
		e.Ruleset = 0
		if place < len(res.Rulesets) {
			e.Ruleset = numbers[Key(res.Rulesets[place])]
		}
		if e.Ruleset == 0 {
			e.Action = model.ActionDeny
		}
	}
	return out
}
