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
package rulesets

import (
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
	// As is a ruleset under whose entries connections with this number may go on: it
	// allows what this one does, which it says in its place when this one is retired.
	As model.RulesetID
}

// Book is what all numbers stand for. The zero value has none.
type Book struct{ rows map[model.RulesetID]Row }

// NewBook takes up rows that were written down before.
func NewBook(rows []Row) Book {
	b := Book{rows: make(map[model.RulesetID]Row, len(rows))}
	for _, r := range rows {
		if r.Own.ID > 0 && r.Own.ID <= model.MaxRulesets {
			b.rows[r.Own.ID] = r
		}
	}
	return b
}

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
func (b Book) List() []model.Ruleset {
	out := make([]model.Ruleset, 0, len(b.rows))
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		out = append(out, b.says(id))
	}
	return out
}

// Interim is what the proxy has to enforce until no entry names what is retired: that
// says what it said by the book that was in force before. New rules must not reach
// connections for which entries still stand that mean others.
func (b Book) Interim(before Book) []model.Ruleset {
	out := b.List()
	for i, r := range out {
		row := b.rows[r.ID]
		if !row.Retired {
			continue
		}
		out[i] = row.Own
		if _, ok := before.rows[r.ID]; ok {
			out[i] = before.says(r.ID)
		}
	}
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

// Retired are the numbers that no entry names.
func (b Book) Retired() (out []model.RulesetID) {
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		if b.rows[id].Retired {
			out = append(out, id)
		}
	}
	return out
}

// Without is the book without some retired numbers.
func (b Book) Without(ids []model.RulesetID) Book {
	next := Book{rows: maps.Clone(b.rows)}
	for _, id := range ids {
		if next.rows[id].Retired {
			delete(next.rows, id)
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
	out, used := make(Numbers, len(want)), make(map[model.RulesetID]bool, len(b.rows)+len(want))
	for _, id := range slices.Sorted(maps.Keys(b.rows)) {
		used[id] = true
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
		id := hashed(key)
		for used[id] {
			id = id%model.MaxRulesets + 1
		}
		used[id], out[key] = true, id
	}
	maps.DeleteFunc(out, func(key string, _ model.RulesetID) bool { return !wanted[key] })
	return out
}

func hashed(key string) model.RulesetID {
	sum := sha256.Sum256([]byte(key))
	return model.RulesetID(binary.BigEndian.Uint32(sum[:])%model.MaxRulesets) + 1
}
