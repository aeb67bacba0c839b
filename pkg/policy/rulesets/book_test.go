// SPDX-License-Identifier: Apache-2.0

package rulesets

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"pgregory.net/rapid"
)

// of is a ruleset made of the first rules of some policies, about a path each.
func of(names ...string) model.Ruleset {
	var out model.Ruleset
	for _, n := range names {
		out.Rules = append(out.Rules, model.RulesetRule{Policy: model.PolicyKey{Kind: "k", Name: n}, Name: "ingress[0]",
			L7: model.L7{HTTP: []model.HTTPRule{{Path: "/" + n}}}})
	}
	return out
}

// names are the policies of a ruleset, or that it is open.
func names(r model.Ruleset) string {
	if r.Open {
		return "open"
	}
	var out []string
	for _, o := range r.Rules {
		out = append(out, o.Policy.Name)
	}
	return fmt.Sprint(out)
}

// entry is one about a peer and a port; bits of the port count.
func entry(peer model.IdentityID, port uint16, bits uint8, ruleset model.RulesetID) model.PolicyEntry {
	return model.PolicyEntry{Direction: model.Ingress, Peer: peer, Protocol: model.ProtoTCP, Port: port, PortBits: bits,
		Action: model.ActionAllow, Precedence: policy.PrecedenceAllow, Ruleset: ruleset, Rule: 1}
}

func holds(entries ...model.PolicyEntry) map[uint32]Holder {
	return map[uint32]Holder{7: holding([2]bool{true, true}, entries)}
}

func holding(isolated [2]bool, entries []model.PolicyEntry) Holder {
	return Holder{Isolated: isolated, Set: model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}}
}

// start is a book in which a, b and c have numbers, and is returned with them.
func start(t *testing.T) (b Book, one, two, three model.RulesetID) {
	t.Helper()
	want := []model.Ruleset{of("a"), of("b"), of("a", "b")}
	slices.SortFunc(want, policy.CompareRulesets)
	n := b.Number(want)
	one, two, three = n[Key(of("a"))], n[Key(of("b"))], n[Key(of("a", "b"))]
	if one == 0 || two == 0 || three == 0 || one == two || two == three || one == three {
		t.Fatalf("numbers %v", n)
	}
	return b.Next(want, n, Change{}), one, two, three
}

// step is what the book becomes when these rulesets are wanted.
func (b Book) step(before, now map[uint32]Holder, want ...model.Ruleset) Book {
	slices.SortFunc(want, policy.CompareRulesets)
	return b.Next(want, b.Number(want), Change{Before: before, Now: now})
}

func TestWhatARetiredNumberSays(t *testing.T) {
	deny := entry(300, 80, 16, 0)
	deny.Action, deny.Precedence = model.ActionDeny, policy.PrecedenceDeny
	book, one, two, three := start(t)
	for name, test := range map[string]struct {
		before, now map[uint32]Holder
		says        string
		as          model.RulesetID
	}{
		"all of its connections would have another": {holds(entry(300, 80, 16, one)), holds(entry(300, 80, 16, two)), "[b]", two},
		"by an entry about more ports":              {holds(entry(300, 80, 16, one)), holds(entry(300, 64, 10, two)), "[b]", two},
		"by an entry about everybody":               {holds(entry(300, 80, 16, one)), holds(entry(0, 80, 16, two)), "[b]", two},
		"they would need no proxy":                  {holds(entry(300, 80, 16, one)), holds(entry(300, 0, 0, 0)), "open", 0},
		"nor would they if nothing isolates":        {holds(entry(300, 80, 16, one)), map[uint32]Holder{7: {}}, "open", 0},
		"some would have another one":               {holds(entry(300, 80, 15, one)), holds(entry(300, 80, 16, two), entry(300, 81, 16, three)), "[a]", 0},
		"some would need none":                      {holds(entry(300, 80, 15, one)), holds(entry(300, 80, 15, 0), entry(300, 81, 16, two)), "[a]", 0},
		"a peer of everybody would have another":    {holds(entry(0, 80, 16, one)), holds(entry(0, 80, 16, two), entry(300, 80, 16, three)), "[a]", 0},
		"they would be denied":                      {holds(entry(300, 80, 16, one)), holds(deny), "[a]", 0},
		"some would be denied, the others not":      {holds(entry(300, 80, 15, one)), holds(entry(300, 80, 15, two), deny), "[b]", two},
		"no rule would allow them":                  {holds(entry(300, 80, 16, one)), holds(entry(301, 80, 16, two)), "[a]", 0},
		"their endpoint is gone":                    {holds(entry(300, 80, 16, one)), nil, "[a]", 0},
		"another port is said something of":         {holds(entry(300, 80, 16, one)), holds(entry(300, 80, 16, two), entry(300, 81, 16, three)), "[b]", two},
	} {
		t.Run(name, func(t *testing.T) {
			b := book.step(test.before, test.now, of("b"), of("a", "b"))
			if got := names(b.says(one)); got != test.says || b.Successors()[one] != test.as {
				t.Errorf("it says %s and goes on as %d, want %s and %d", got, b.Successors()[one], test.says, test.as)
			}
			if got := b.Retired(); !slices.Equal(got, []model.RulesetID{one}) {
				t.Errorf("retired are %v", got)
			}
		})
	}
}

// What a number leads to may be retired in its turn.
func TestRetiredNumbersFollowEachOther(t *testing.T) {
	book, one, two, three := start(t)
	at := func(id model.RulesetID) map[uint32]Holder { return holds(entry(300, 80, 16, id)) }
	b := book.step(at(one), at(two), of("b"), of("a", "b"))
	b = b.step(at(two), at(three), of("a", "b"))
	for _, id := range []model.RulesetID{one, two} {
		if names(b.says(id)) != "[a b]" || b.Successors()[id] != three {
			t.Errorf("%d says %s and goes on as %d, want [a b] and %d", id, names(b.says(id)), b.Successors()[id], three)
		}
	}
	if c := b.Without([]model.RulesetID{two, three}); names(c.says(one)) != "[a b]" || len(c.Rows()) != 2 {
		t.Errorf("when %d is free, %d says %s: %+v", two, one, names(c.says(one)), c.Rows())
	}
	b = b.step(at(three), at(0))
	for _, id := range []model.RulesetID{one, two, three} {
		if names(b.says(id)) != "open" {
			t.Errorf("%d says %s", id, names(b.says(id)))
		}
	}
	// Origins that come back have their number, and say what their rules say.
	b = b.step(at(0), at(one), of("a"))
	if row, _ := b.Row(one); row.Retired || row.As != 0 || names(b.says(one)) != "[a]" {
		t.Errorf("%d is %+v", one, row)
	}
}

// A connection may go on under rules that allow all that its own do, and more; one
// that may do more than new ones may not.
func TestConnectionsOfALiveNumberMayGoOnUnderMoreRules(t *testing.T) {
	book, one, _, three := start(t)
	both := func(a, b model.RulesetID) map[uint32]Holder {
		return holds(entry(300, 80, 16, a), entry(301, 80, 16, b))
	}
	b := book.step(both(one, one), both(one, three), of("a"), of("a", "b"))
	if got := b.Successors(); !reflect.DeepEqual(got, map[model.RulesetID]model.RulesetID{one: three}) || names(b.says(one)) != "[a]" {
		t.Errorf("successors %v, and %d says %s", got, one, names(b.says(one)))
	}
	// It stays so while both are there.
	if c := b.step(both(one, three), both(one, three), of("a"), of("a", "b")); c.Successors()[one] != three {
		t.Errorf("successors %v", c.Successors())
	}
	b = book.step(both(three, three), both(three, one), of("a"), of("a", "b"))
	if got := b.Successors(); len(got) != 0 {
		t.Errorf("successors %v of one that allows more", got)
	}
}

// Nor may one that only audits go on for rules that do more, nor one whose requests would
// have other headers now.
func TestConnectionsOfALiveNumberDoNotPassOtherwise(t *testing.T) {
	audits := func(r model.Ruleset) model.Ruleset { r.Audit = true; return r }
	changes := of("a", "b")
	changes.Rules[1].L7 = model.L7{HTTP: []model.HTTPRule{{Headers: []model.HeaderMatch{{Name: "x", Value: "y", Mismatch: model.MismatchReplace}}}}}
	for name, c := range map[string]struct {
		a, ab model.Ruleset
		goes  bool
	}{"as it was": {of("a"), of("a", "b"), true}, "from audit": {audits(of("a")), of("a", "b"), false}, "in audit": {audits(of("a")), audits(of("a", "b")), true},
		"with changed headers": {of("a"), changes, false}} {
		book, one, _, three := start(t)
		b := book.step(holds(entry(300, 80, 16, one), entry(301, 80, 16, one)), holds(entry(300, 80, 16, one), entry(301, 80, 16, three)), c.a, c.ab)
		if got := b.Successors()[one] == three; got != c.goes {
			t.Errorf("%s: goes on: %v", name, got)
		}
	}
}

// What a live number leads to may be retired with the same change: then its connections
// must not go on where those of that one do.
func TestALiveNumberDoesNotFollowARetiredOne(t *testing.T) {
	for range 50 { // whatever order rows come in
		book, one, two, three := start(t)
		at := func(a, b model.RulesetID) map[uint32]Holder {
			return holds(entry(300, 80, 16, a), entry(301, 80, 16, b))
		}
		b := book.step(at(one, one), at(one, three), of("a"), of("b"), of("a", "b"))
		if got := b.Successors()[one]; got != three {
			t.Fatalf("%d goes on as %d, want %d", one, got, three)
		}
		b = b.step(at(one, three), at(one, two), of("a"), of("b"))
		if got := b.Successors(); !reflect.DeepEqual(got, map[model.RulesetID]model.RulesetID{three: two}) {
			t.Fatalf("successors %v", got)
		}
	}
}

// A number that is named again says what its rules say. Its connections, which went on as
// another's, may do so still where all of that one's have this number now, or need none.
func TestConnectionsOfANumberThatIsNamedAgain(t *testing.T) {
	deny := entry(300, 80, 16, 0)
	deny.Action, deny.Precedence = model.ActionDeny, policy.PrecedenceDeny
	for name, test := range map[string]struct {
		now  func(one, two model.RulesetID) []model.PolicyEntry
		want []model.Ruleset
		stay bool
	}{
		"it has all of them": {func(one, _ model.RulesetID) []model.PolicyEntry { return []model.PolicyEntry{entry(300, 80, 15, one)} }, []model.Ruleset{of("a")}, true},
		"the other one has some": {func(one, two model.RulesetID) []model.PolicyEntry {
			return []model.PolicyEntry{entry(300, 80, 15, two), entry(300, 81, 16, one)}
		}, []model.Ruleset{of("a"), of("b")}, false},
		"some are refused": {func(one, _ model.RulesetID) []model.PolicyEntry {
			return []model.PolicyEntry{entry(300, 80, 15, one), deny}
		}, []model.Ruleset{of("a")}, false},
		"some need none, some have": {func(one, _ model.RulesetID) []model.PolicyEntry {
			return []model.PolicyEntry{entry(300, 80, 15, one), entry(300, 80, 16, 0)}
		}, []model.Ruleset{of("a")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			book, one, two, _ := start(t)
			old := holds(entry(300, 80, 15, two))
			before := book.step(holds(entry(300, 80, 15, one)), old, of("b"))
			if before.Successors()[one] != two {
				t.Fatalf("successors are %v", before.Successors())
			}
			b := before.step(old, holds(test.now(one, two)...), test.want...)
			if got := b.Links(before).Before[one] == two; got != test.stay {
				t.Errorf("before, followers were %v; they stay: %v", b.Links(before).Before, got)
			}
		})
	}
}

// Until the kernel has the new entries, the old ones must not let pass what they did not.
func TestWhatIsRetiredChangesLast(t *testing.T) {
	book, one, two, _ := start(t)
	b := book.step(holds(entry(300, 80, 16, one)), holds(entry(300, 80, 16, two)), of("b"), of("a", "b"))
	at := func(list []model.Ruleset) string {
		return names(list[slices.IndexFunc(list, func(r model.Ruleset) bool { return r.ID == one })])
	}
	if at(b.Interim(book)) != "[a]" || at(b.Interim(Book{})) != "[a]" || at(b.List()) != "[b]" || at(b.Interim(b)) != "[b]" {
		t.Errorf("it says %s, then %s", at(b.Interim(book)), at(b.List()))
	}
}

func TestAllNumbersAreTaken(t *testing.T) {
	var want []model.Ruleset
	for i := range model.MaxRulesets + 2 {
		want = append(want, of(fmt.Sprintf("p%04d", i)))
	}
	var b Book
	n := b.Number(want)
	if len(n) != model.MaxRulesets || n[Key(want[model.MaxRulesets])] != 0 {
		t.Fatalf("%d numbers, the one too many has %d", len(n), n[Key(want[model.MaxRulesets])])
	}
	b = b.Next(want, n, Change{})
	if again := b.Number(want); !reflect.DeepEqual(again, n) {
		t.Error("numbers moved")
	}
	// One that is retired has its number still; only without it another gets one.
	b = b.step(nil, nil, want[1:]...)
	if got := b.Number(want[1:]); len(got) != model.MaxRulesets-1 {
		t.Errorf("%d numbers", len(got))
	}
	b = b.Without(b.Retired())
	if got := b.Number(want[1:]); len(got) != model.MaxRulesets || got[Key(want[model.MaxRulesets])] != n[Key(want[0])] {
		t.Errorf("%d numbers, the first free one went to %d", len(got), got[Key(want[model.MaxRulesets])])
	}
}

func TestInForceRefusesWhatHasNoNumber(t *testing.T) {
	res := policy.Result{Rulesets: []model.Ruleset{of("a"), of("b")}}
	res.Set.Entries = []model.PolicyEntry{entry(300, 80, 16, 1), entry(300, 81, 16, 2), entry(300, 82, 16, 0), entry(300, 83, 16, 9)}
	got := InForce(res, Numbers{Key(of("b")): 40})
	want := []model.PolicyEntry{entry(300, 80, 16, 0), entry(300, 81, 16, 40), entry(300, 82, 16, 0), entry(300, 83, 16, 0)}
	want[0].Action, want[3].Action = model.ActionDeny, model.ActionDeny
	if !slices.Equal(got, want) || res.Set.Entries[0].Ruleset != 1 {
		t.Errorf("got %+v", got)
	}
}

// Whatever came before: live numbers belong to their origins and stay, none is there
// twice, no successor is missing or its own, and a book that was written down and read
// says the same.
func TestBooksKeepTheirWord(t *testing.T) {
	all := []model.Ruleset{of("a"), of("a", "b"), of("b"), of("b", "c"), of("c")}
	rapid.Check(t, func(t *rapid.T) {
		var b Book
		before := map[uint32]Holder{}
		for range 6 {
			var want []model.Ruleset
			for _, r := range all {
				if rapid.Bool().Draw(t, "wanted") {
					want = append(want, r)
				}
			}
			numbers := b.Number(want)
			now := map[uint32]Holder{}
			for ep := range uint32(2) {
				isolated := [2]bool{true, rapid.Bool().Draw(t, "isolated")}
				var entries []model.PolicyEntry
				for i, r := range want {
					if peer := rapid.IntRange(0, 3).Draw(t, "peer"); peer > 0 {
						entries = append(entries, entry(model.IdentityID(peer-1)*300, uint16(80+i%2), 16, numbers[Key(r)]))
					}
				}
				now[ep] = holding(isolated, entries)
			}
			next := b.Next(want, numbers, Change{before, now})
			if rapid.Bool().Draw(t, "free") {
				next = next.Without(next.Retired())
			}
			check(t, b, next, want)
			b, before = NewBook(next.Rows(), next.Pairs()), now
			if !reflect.DeepEqual(b.List(), next.List()) || !reflect.DeepEqual(b.Successors(), next.Successors()) {
				t.Fatalf("read back %+v, not %+v", b, next)
			}
		}
	})
}

func check(t *rapid.T, before, b Book, want []model.Ruleset) {
	for _, r := range want {
		id := b.Number(want)[Key(r)]
		row, ok := b.Row(id)
		if !ok || row.Retired || names(b.says(id)) != names(r) {
			t.Fatalf("%s is %d: %+v", names(r), id, row)
		}
		for _, old := range before.Rows() {
			if !old.Retired && Key(old.Own) == Key(r) && old.Own.ID != id {
				t.Fatalf("%s had %d and has %d", names(r), old.Own.ID, id)
			}
		}
	}
	if live := len(b.Rows()) - len(b.Retired()); live != len(want) {
		t.Fatalf("%d are live, want %d", live, len(want))
	}
	for id, as := range b.Successors() {
		if _, ok := b.Row(as); !ok || as == id {
			t.Fatalf("%d goes on as %d", id, as)
		}
	}
}
