// SPDX-License-Identifier: Apache-2.0

// Package rulesets numbers the rulesets of a node and says what each number means
// to the connections that have it. It is pure: a Book is a value, and Next answers
// with another one.
//
// A number belongs to origins: the rules, by their policies and places, that a
// ruleset is made of. While entries name it, it says what these rules say now. A
// number that no entry names any more is retired: connections may have it still, and
// it says what would be asked of them if they were new (see Outcome). It is free for
// others when no connection has it.
//
// A pair has a number of its own and stands for two others, one asked after the other.
// What it says is what these say, so it needs no rules, and follows where they lead. Its
// rulesets keep their numbers while it has one.
package rulesets

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// Row is what a number stands for.
type Row struct {
	Own     model.Ruleset // with the number; what its rules said when entries last named it
	Retired bool          // no entry names it
	// Open: what had it passes now without a proxy. Of retired ones only.
	Open bool
	// Refused: some of what had it passes no more. Of retired ones only.
	Refused bool `json:",omitempty"`
	// As is a ruleset under whose entries connections with this number may go on: it
	// allows what this one does, which it says in its place when this one is retired.
	As model.RulesetID
}

// Book is what all numbers stand for. The zero value has none.
type Book struct {
	rows  map[model.RulesetID]Row
	pairs map[model.RulesetID]Pair
}

// NewBook takes up rows and pairs that were written down before.
func NewBook(rows []Row, pairs []Pair) Book {
	b := Book{rows: make(map[model.RulesetID]Row, len(rows)), pairs: make(map[model.RulesetID]Pair, len(pairs))}
	for _, r := range rows {
		if isNumber(r.Own.ID) {
			b.rows[r.Own.ID] = r
		}
	}
	for _, p := range pairs {
		_, taken := b.rows[p.ID]
		_, first := b.rows[p.First]
		_, then := b.rows[p.Then]
		if isNumber(p.ID) && !taken && first && then {
			b.pairs[p.ID] = p
		}
	}
	return b
}

func isNumber(id model.RulesetID) bool { return id > 0 && id <= model.MaxRulesets }

// Len is how many numbers stand for something.
func (b Book) Len() int { return len(b.rows) + len(b.pairs) }

// Rows lists all rows by number.
func (b Book) Rows() []Row {
	out := make([]Row, 0, len(b.rows))
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		out = append(out, b.rows[id])
	}
	return out
}

// Row is what a number stands for.
func (b Book) Row(id model.RulesetID) (Row, bool) {
	r, ok := b.rows[id]
	return r, ok
}

// List is what the proxy has to enforce, by number.
func (b Book) List() []model.Ruleset { return b.withPairs(b.says) }

// Interim is what the proxy has to enforce until no entry names what is retired: that
// says what it said by the book that was in force before. New rules must not reach
// connections for which entries still stand that mean others.
func (b Book) Interim(before Book) []model.Ruleset {
	return b.withPairs(func(id model.RulesetID) model.Ruleset {
		row := b.rows[id]
		if !row.Retired {
			return b.says(id)
		}
		if _, ok := before.rows[id]; ok {
			return before.says(id)
		}
		return row.Own
	})
}

// withPairs lists all numbers, by what is said of those that are no pairs.
func (b Book) withPairs(says func(model.RulesetID) model.Ruleset) []model.Ruleset {
	out := make([]model.Ruleset, 0, b.Len())
	for id := range b.rows {
		out = append(out, says(id))
	}
	for id, p := range b.pairs {
		both, then := says(p.First), says(p.Then)
		both.ID, both.Then = id, &then
		out = append(out, both)
	}
	slices.SortFunc(out, func(a, b model.Ruleset) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// says follows a retired number to where its connections belong now.
func (b Book) says(id model.RulesetID) model.Ruleset {
	at := b.rows[id]
	for range len(b.rows) { // no longer than a chain can be
		next, ok := b.rows[at.As]
		if !at.Retired || at.Open || !ok {
			break
		}
		at = next
	}
	out := at.Own // also where it is open: the kinds of its rules tell what connections speak
	out.ID, out.Open = id, at.Open
	return out
}

// Successors are, by number, the ruleset under whose entries the connections of a
// number may go on.
func (b Book) Successors() map[model.RulesetID]model.RulesetID {
	out := make(map[model.RulesetID]model.RulesetID)
	for id, r := range b.rows {
		at := r.As
		for range len(b.rows) {
			next, ok := b.rows[at]
			if !ok || !next.Retired || next.As == 0 {
				break
			}
			at = next.As
		}
		if at != 0 && at != id {
			out[id] = at
		}
	}
	return out
}

// Links is what the kernel is to know of the numbers while entries may still be those of
// the book that was in force before: connections that begin get the pairs of that. One
// that is named again says what it said, while its connections went on as another one's:
// they must not, unless all of that one's are its own now, or free.
func (b Book) Links(before Book) model.RulesetLinks {
	out := model.RulesetLinks{As: b.Successors(), Before: before.Successors(), Pairs: make(map[model.RulesetID]model.RulesetPair, len(b.pairs))}
	maps.DeleteFunc(out.Before, func(id, as model.RulesetID) bool {
		now, ok := b.rows[id]
		to := b.rows[as]
		again := ok && !now.Retired && before.rows[id].Retired
		return again && !(to.Retired && !to.Refused && (to.Open || out.As[as] == id))
	})
	if maps.Equal(out.As, out.Before) {
		out.Before = nil
	}
	for id, p := range b.pairs {
		was, ok := before.pairs[id]
		out.Pairs[id] = model.RulesetPair{First: p.First, Then: p.Then, Begin: ok && was.of() == p.of() && !was.Retired}
	}
	return out
}

// Retired are the numbers that no entry names, and those of pairs that no connection
// gets any more.
func (b Book) Retired() (out []model.RulesetID) {
	for id, r := range b.rows {
		if r.Retired {
			out = append(out, id)
		}
	}
	for id, p := range b.pairs {
		if p.Retired {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Free are the retired numbers that nothing needs any more, if connections have those
// that are used. A pair needs its rulesets.
func (b Book) Free(used map[model.RulesetID]bool) []model.RulesetID {
	needed := maps.Clone(used)
	if needed == nil {
		needed = make(map[model.RulesetID]bool)
	}
	for id, p := range b.pairs {
		if !p.Retired || used[id] {
			needed[p.First], needed[p.Then] = true, true
		}
	}
	return slices.DeleteFunc(b.Retired(), func(id model.RulesetID) bool { return needed[id] })
}

// Without is the book without some retired numbers.
func (b Book) Without(ids []model.RulesetID) Book {
	next := Book{rows: maps.Clone(b.rows), pairs: maps.Clone(b.pairs)}
	for _, id := range ids {
		if next.rows[id].Retired {
			delete(next.rows, id)
		}
		if next.pairs[id].Retired {
			delete(next.pairs, id)
		}
	}
	for id, r := range next.rows {
		if _, ok := next.rows[r.As]; !ok && r.As != 0 {
			r.As = 0
			if r.Retired { // what it said in that one's place stays what it says
				r.Own = b.says(id)
				r.Open, r.Own.Open = r.Own.Open, false
			}
			next.rows[id] = r
		}
	}
	return next
}

// Key is equal for rulesets with the same origins.
func Key(r model.Ruleset) string {
	var b strings.Builder
	for _, o := range r.Rules {
		for _, s := range []string{o.Policy.Kind, o.Policy.Namespace, o.Policy.Name, o.Name} {
			b.WriteString(s)
			b.WriteByte(0)
		}
	}
	return b.String()
}

// Numbers are the numbers of rulesets by their keys.
type Numbers map[string]model.RulesetID

// Number gives numbers to rulesets. One whose origins have a number keeps it, be it
// retired. A new one takes the number that its hash names, or the next free one: so
// an agent that lost its book comes to the same ones, short of collisions. When all
// numbers are taken, those that are left, last by origins, get none.
func (b Book) Number(want []model.Ruleset) Numbers {
	out, used := make(Numbers, len(want)), b.numbers()
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		key := Key(b.rows[id].Own)
		if old := out[key]; old == 0 || b.rows[old].Retired && !b.rows[id].Retired {
			out[key] = id
		}
	}
	wanted := make(map[string]bool, len(want))
	for _, r := range want { // sorted by origins
		key := Key(r)
		wanted[key] = true
		if out[key] != 0 || len(used) == model.MaxRulesets {
			continue
		}
		out[key] = unused(key, used)
	}
	maps.DeleteFunc(out, func(key string, _ model.RulesetID) bool { return !wanted[key] })
	return out
}

// numbers are those that stand for something.
func (b Book) numbers() map[model.RulesetID]bool {
	used := make(map[model.RulesetID]bool, b.Len())
	for id := range b.rows {
		used[id] = true
	}
	for id := range b.pairs {
		used[id] = true
	}
	return used
}

// unused is the number that a key's hash names, or the next free one, and uses it. There
// must be one.
func unused(key string, used map[model.RulesetID]bool) model.RulesetID {
	id := hashed(key)
	for used[id] {
		id = id%model.MaxRulesets + 1
	}
	used[id] = true
	return id
}

func hashed(key string) model.RulesetID {
	sum := sha256.Sum256([]byte(key))
	return model.RulesetID(binary.BigEndian.Uint32(sum[:])%model.MaxRulesets) + 1
}
