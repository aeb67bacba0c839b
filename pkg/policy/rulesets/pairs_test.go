// SPDX-License-Identifier: Apache-2.0

package rulesets

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"pgregory.net/rapid"
)

// out is as entry, of egress.
func out(peer model.IdentityID, port uint16, bits uint8, ruleset model.RulesetID) model.PolicyEntry {
	e := entry(peer, port, bits, ruleset)
	e.Direction = model.Egress
	return e
}

func end(id model.IdentityID, entries ...model.PolicyEntry) End {
	model.SortEntries(entries)
	return End{Identity: id, Set: model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}}
}

// both are two rulesets that meet.
type both = [2]model.RulesetID

func TestWhichRulesetsMeet(t *testing.T) {
	deny := entry(300, 80, 16, 0)
	deny.Action, deny.Precedence = model.ActionDeny, policy.PrecedenceDeny
	for name, test := range map[string]struct {
		ends []End
		want []both
	}{
		"a peer on both sides":         {[]End{end(300, out(301, 80, 16, 1)), end(301, entry(300, 80, 16, 2))}, []both{{1, 2}}},
		"everybody on both":            {[]End{end(300, out(0, 80, 16, 1)), end(301, entry(0, 80, 16, 2))}, []both{{1, 2}}},
		"one endpoint alone":           {[]End{end(300, out(0, 80, 16, 1), entry(0, 80, 16, 2))}, []both{{1, 2}}},
		"another peer":                 {[]End{end(300, out(302, 80, 16, 1)), end(301, entry(300, 80, 16, 2))}, nil},
		"another client":               {[]End{end(300, out(301, 80, 16, 1)), end(301, entry(302, 80, 16, 2))}, nil},
		"another port":                 {[]End{end(300, out(301, 81, 16, 1)), end(301, entry(300, 80, 16, 2))}, nil},
		"ranges that overlap":          {[]End{end(300, out(301, 80, 15, 1)), end(301, entry(300, 81, 16, 2))}, []both{{1, 2}}},
		"all ports":                    {[]End{end(300, out(301, 0, 0, 1)), end(301, entry(300, 81, 16, 2), entry(300, 90, 16, 3))}, []both{{1, 2}, {1, 3}}},
		"nobody here":                  {[]End{end(300, out(301, 80, 16, 1))}, nil},
		"it is allowed without":        {[]End{end(300, out(301, 80, 16, 1)), end(301, entry(300, 80, 16, 0), entry(0, 80, 16, 2))}, nil},
		"it is denied":                 {[]End{end(300, out(301, 80, 16, 1)), end(301, deny, entry(300, 80, 15, 2))}, nil},
		"an entry of more ports":       {[]End{end(300, out(301, 80, 15, 1), out(301, 80, 16, 0)), end(301, entry(300, 80, 16, 2))}, nil},
		"each client has its own":      {[]End{end(300, out(0, 80, 16, 1)), end(302, out(0, 80, 16, 4)), end(301, entry(300, 80, 16, 2), entry(302, 80, 16, 3))}, []both{{1, 2}, {4, 3}}},
		"each server has its own":      {[]End{end(300, out(301, 80, 16, 1), out(302, 80, 16, 2)), end(301, entry(0, 80, 16, 3)), end(302, entry(0, 80, 16, 3))}, []both{{1, 3}, {2, 3}}},
		"who is none of the set's own": {[]End{end(300, out(0, 80, 16, 1)), end(302, out(0, 80, 16, 1)), end(301, entry(300, 80, 16, 2))}, []both{{1, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Meet(test.ends); !slices.Equal(got, test.want) {
				t.Errorf("%v meet, want %v", got, test.want)
			}
		})
	}
}

// They meet exactly where a look at every port of every two endpoints finds both.
func TestRulesetsMeetWhereSomeConnectionHasBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ends []End
		for i := range 4 {
			var entries []model.PolicyEntry
			for range rapid.IntRange(0, 5).Draw(t, "entries") {
				peer := rapid.SampledFrom([]model.IdentityID{0, 300, 301, 302}).Draw(t, "peer")
				bits := rapid.IntRange(12, 16).Draw(t, "bits")
				port := uint16(rapid.IntRange(0, 31).Draw(t, "port")) &^ uint16(1<<(16-bits)-1)
				e := entry(peer, port, uint8(bits), model.RulesetID(rapid.IntRange(0, 3).Draw(t, "ruleset")))
				e.Direction = model.Direction(rapid.IntRange(0, 1).Draw(t, "direction"))
				if !slices.ContainsFunc(entries, func(o model.PolicyEntry) bool {
					return o.Direction == e.Direction && o.Peer == e.Peer && o.Port == e.Port && o.PortBits == e.PortBits
				}) {
					entries = append(entries, e)
				}
			}
			ends = append(ends, end(model.IdentityID(300+i%3), entries...))
		}
		want := map[both]bool{}
		for _, x := range ends {
			for _, y := range ends {
				for port := range uint16(32) {
					a := index(Holder{Set: x.Set}).lookup(model.Egress, y.Identity, port).Ruleset
					b := index(Holder{Set: y.Set}).lookup(model.Ingress, x.Identity, port).Ruleset
					if a != 0 && b != 0 {
						want[both{a, b}] = true
					}
				}
			}
		}
		got := Meet(ends)
		if len(got) != len(want) || slices.ContainsFunc(got, func(b both) bool { return !want[b] }) {
			t.Fatalf("%v meet, want %v", got, want)
		}
	})
}

// saying is what a number says to the proxy.
func saying(list []model.Ruleset, id model.RulesetID) string {
	i := slices.IndexFunc(list, func(r model.Ruleset) bool { return r.ID == id })
	if i < 0 {
		return ""
	}
	if list[i].Then == nil {
		return names(list[i])
	}
	return names(list[i]) + " then " + names(*list[i].Then)
}

func onlyPair(t *testing.T, b Book) Pair {
	t.Helper()
	if len(b.Pairs()) != 1 {
		t.Fatalf("pairs are %+v", b.Pairs())
	}
	return b.Pairs()[0]
}

func TestAPairSaysWhatItsRulesetsSay(t *testing.T) {
	book, one, two, three := start(t)
	b := book.WithPairs([]both{{one, two}}, 3)
	p := onlyPair(t, b)
	if saying(b.List(), p.ID) != "[a] then [b]" || p.Retired || b.Len() != 4 {
		t.Errorf("%+v says %s", p, saying(b.List(), p.ID))
	}
	// Another agent comes to the same number, and one that reads the book, too.
	if again := onlyPair(t, book.WithPairs([]both{{one, two}}, 3)); again != p {
		t.Errorf("%+v, not %+v", again, p)
	}
	if read := NewBook(b.Rows(), b.Pairs()); saying(read.List(), p.ID) != "[a] then [b]" {
		t.Errorf("read back, %s", saying(read.List(), p.ID))
	}
	if read := NewBook(b.Rows()[:2], b.Pairs()); len(read.Pairs()) != 0 {
		t.Errorf("without its rulesets there are pairs %v", read.Pairs())
	}

	// Its first ruleset becomes another's: so does what the pair asks first, once the
	// kernel has the entries.
	next := b.step(holds(entry(300, 80, 16, one)), holds(entry(300, 80, 16, three)), of("b"), of("a", "b")).WithPairs([]both{{three, two}}, 3)
	if got := saying(next.Interim(b), p.ID); got != "[a] then [b]" {
		t.Errorf("at first it says %s", got)
	}
	if got := saying(next.List(), p.ID); got != "[a b] then [b]" {
		t.Errorf("then it says %s", got)
	}
	if old, _ := next.Pair(p.ID); !old.Retired || len(next.Pairs()) != 2 {
		t.Errorf("pairs are %+v", next.Pairs())
	}
	// Connections may have it, and it needs its rulesets.
	if got := next.Free(map[model.RulesetID]bool{p.ID: true}); len(got) != 0 {
		t.Errorf("free are %v", got)
	}
	want := []model.RulesetID{p.ID, one}
	slices.Sort(want)
	if got := next.Free(nil); !slices.Equal(got, want) {
		t.Errorf("free are %v", got)
	}
	left := next.Without(next.Free(nil))
	if len(left.Pairs()) != 1 || left.Len() != 3 {
		t.Errorf("left are %+v", left)
	}

	// Nothing is asked any more on one side.
	open := b.step(holds(entry(300, 80, 16, one)), holds(entry(300, 80, 16, 0)), of("b"), of("a", "b")).WithPairs(nil, 2)
	if got := saying(open.List(), p.ID); got != "open then [b]" {
		t.Errorf("it says %s", got)
	}
}

// Connections that begin get a pair when everybody has been told of it, and until all
// entries are new they get those of before.
func TestWhenConnectionsGetAPair(t *testing.T) {
	book, one, two, three := start(t)
	b := book.WithPairs([]both{{one, two}}, 3)
	p := onlyPair(t, b)
	if got := b.Links(book).Pairs[p.ID]; got != (model.RulesetPair{First: one, Then: two}) {
		t.Errorf("at first %+v", got)
	}
	if got := b.Links(b).Pairs[p.ID]; got != (model.RulesetPair{First: one, Then: two, Begin: true}) {
		t.Errorf("then %+v", got)
	}
	next := b.WithPairs([]both{{one, three}}, 3)
	if !next.Links(b).Pairs[p.ID].Begin || next.Links(next).Pairs[p.ID].Begin {
		t.Errorf("the old one: %+v, then %+v", next.Links(b).Pairs[p.ID], next.Links(next).Pairs[p.ID])
	}
	// It is wanted again: the same number.
	if again, _ := next.WithPairs([]both{{one, two}}, 3).Pair(p.ID); again != p {
		t.Errorf("again it is %+v, not %+v", again, p)
	}
}

func TestWhatIsNoPair(t *testing.T) {
	tls := of("tls")
	tls.Rules[0].L7 = model.L7{ServerNames: []string{"a.example"}}
	var want []model.Ruleset
	var meet []both
	for i := range MaxPairs + 10 {
		want = append(want, of(fmt.Sprintf("p%04d", i)))
	}
	want = append(want, tls)
	var b Book
	n := b.Number(want)
	b = b.Next(want, n, Change{})
	for _, r := range want {
		meet = append(meet, both{n[Key(r)], n[Key(want[0])]})
	}
	slices.SortFunc(meet, func(a, b [2]model.RulesetID) int { return int(a[0]) - int(b[0]) })
	got := b.WithPairs(meet, len(want))
	if len(got.Pairs()) != MaxPairs {
		t.Errorf("%d pairs", len(got.Pairs()))
	}
	for _, p := range got.Pairs() {
		if p.First == n[Key(tls)] || p.First > meet[MaxPairs][0] {
			t.Errorf("there is a pair of %d, %d have smaller numbers, and TLS has %d", p.First, MaxPairs, n[Key(tls)])
		}
	}
	if got := b.WithPairs([]both{{n[Key(tls)], n[Key(want[0])]}, {n[Key(want[0])], n[Key(tls)]}, {n[Key(want[0])], 999}}, len(want)); len(got.Pairs()) != 0 {
		t.Errorf("pairs are %+v", got.Pairs())
	}
	// Rulesets go before pairs where numbers are few.
	for i := range model.MaxRulesets - len(want) {
		want = append(want, of(fmt.Sprintf("q%04d", i)))
	}
	full := got.Next(want, got.Number(want), Change{})
	if full = full.WithPairs(meet, len(want)); slices.ContainsFunc(full.Pairs(), func(p Pair) bool { return !p.Retired }) {
		t.Error("there are pairs where rulesets lack numbers")
	}
	full = full.Without(full.Free(nil))
	if n := full.Number(want); len(n) != model.MaxRulesets {
		t.Errorf("%d rulesets have numbers", len(n))
	}
}
