// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"pgregory.net/rapid"
)

func TestRangesBecomeFewPrefixes(t *testing.T) {
	check := func(t *rapid.T, first, last uint16) {
		n, next := 0, uint32(first)
		rangePrefixes(model.ProtoTCP, first, last, func(p portPrefix) {
			n++
			if uint32(p.port) != next || p.proto != model.ProtoTCP {
				t.Fatalf("%d-%d: prefix %+v, want one from %d", first, last, p, next)
			}
			next += 1 << (24 - p.bits)
			if p.port&(1<<(24-p.bits)-1) != 0 {
				t.Fatalf("%d-%d: prefix %+v is not aligned", first, last, p)
			}
		})
		if next != uint32(last)+1 || n > 30 {
			t.Fatalf("%d-%d: %d prefixes up to %d", first, last, n, next)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint16().Draw(t, "a"), rapid.Uint16().Draw(t, "b")
		check(t, min(a, b), max(a, b))
		check(t, 1, 65534) // the worst
		check(t, 0, 65535)
	})
}

func TestRuleNumbers(t *testing.T) {
	rules := func(names ...string) []model.Policy {
		p := model.Policy{Key: model.PolicyKey{Kind: "k", Name: "p"}}
		for _, n := range names {
			p.Rules = append(p.Rules, model.Rule{Name: n, Action: model.ActionDeny})
		}
		return []model.Policy{p}
	}
	a, b := NumberRules(rules("r1", "r2")), NumberRules(rules("r2", "r3"))
	k := model.PolicyKey{Kind: "k", Name: "p"}
	if a.ID(k, "r2") != b.ID(k, "r2") || a.ID(k, "r1") == a.ID(k, "r2") || a.ID(k, "r1") == 0 || a.ID(k, "none") != 0 {
		t.Errorf("numbers %v and %v", a.ids, b.ids)
	}
	if ref, ok := a.Ref(a.ID(k, "r1")); !ok || ref != (model.RuleRef{Policy: k, Rule: "r1", Action: model.ActionDeny}) {
		t.Errorf("reference %+v", ref)
	}
}

// Rules whose hashes collide get different numbers, in order of their names and
// whatever order they come in.
func TestCollidingRuleNumbers(t *testing.T) {
	first, second := colliding(t, func(i int) uint32 { return uint32(ruleHash(ruleName{rule: fmt.Sprint("r", i)})) })
	names := []ruleRefName{{ruleName: ruleName{rule: fmt.Sprint("r", first)}}, {ruleName: ruleName{rule: fmt.Sprint("r", second)}}}
	slices.SortFunc(names, func(a, b ruleRefName) int { return len(a.rule) - len(b.rule) })
	forth := number(slices.Clone(names))
	slices.Reverse(names)
	back := number(names)
	if !reflect.DeepEqual(forth, back) || len(forth.refs) != 2 {
		t.Errorf("numbers %v and %v", forth.ids, back.ids)
	}
}

// A policy whose rule takes the number of another's moves that one's entries.
func TestRenumberedRulesAreCompiledAgain(t *testing.T) {
	make := func(i int) model.Policy {
		return model.Policy{Key: model.PolicyKey{Name: fmt.Sprintf("p%08d", i)}, Rules: []model.Rule{{Name: "r", Action: model.ActionAllow, Peers: []model.Peer{{Any: true}}}}}
	}
	first, second := colliding(t, func(i int) uint32 { return uint32(ruleHash(ruleName{make(i).Key, "r"})) })
	in := Inputs{Policies: []model.Policy{make(second)}, Subjects: []Subject{{Identity: 256}}}
	c := NewCompiler()
	if _, err := c.Update(in); err != nil {
		t.Fatal(err)
	}
	// The other policy selects nobody, so only the number moves.
	other := make(first)
	other.Subject.Requirements = []model.Requirement{{Source: "any", Key: "a", Operator: model.OpExists}}
	in.Policies = append(in.Policies, other)
	got, err := c.Update(in)
	if err != nil {
		t.Fatal(err)
	}
	if rule := got.Results[0].Set.Entries[0].Rule; rule != got.Rules.ID(make(second).Key, "r") {
		t.Errorf("the entry names rule %d of %v", rule, got.Rules.ids)
	}
}

// Peers that no rule names any more are forgotten.
func TestUnusedPeersAreForgotten(t *testing.T) {
	c := NewCompiler()
	in := Inputs{Policies: []model.Policy{{Rules: []model.Rule{{Name: "r", Peers: []model.Peer{{Any: true}, {Entity: "host"}}}}}}}
	for _, want := range []int{2, 0} {
		if _, err := c.Update(in); err != nil || len(c.universe.peers) != want {
			t.Errorf("%d peers are kept, want %d: %v", len(c.universe.peers), want, err)
		}
		in.Policies = nil
	}
}

// colliding finds two numbers with one hash.
func colliding(t *testing.T, hash func(int) uint32) (a, b int) {
	t.Helper()
	seen := map[uint32]int{}
	for i := range 1 << 20 {
		h := hash(i)
		if j, ok := seen[h]; ok {
			return j, i
		}
		seen[h] = i
	}
	t.Fatal("no two hashes collide")
	return 0, 0
}

// A number that moves would have live flows decided again, and stopped where
// only half of the kernel knows the new one.
func TestPrefixNamedTwiceKeepsItsNumber(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.0/24")
	known := map[netip.Prefix]model.IdentityID{p: localHash(p) + 7}
	got, err := NewLocals(known).Update([]netip.Prefix{p, netip.MustParsePrefix("2001:db8::/32"), p})
	if err != nil || got.ids[p] != known[p] {
		t.Errorf("the number moved from %d to %d: %v", known[p], got.ids[p], err)
	}
}

func TestCollidingPrefixes(t *testing.T) {
	prefix := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	a, b := colliding(t, func(i int) uint32 { return uint32(localHash(prefix(i))) })
	both, err := Locals{}.Update([]netip.Prefix{prefix(a), prefix(b)})
	if err != nil || both.ids[prefix(a)] == both.ids[prefix(b)] {
		t.Fatalf("identities %v: %v", both.ids, err)
	}
	alone, err := both.Update([]netip.Prefix{prefix(b)})
	if err != nil || alone.ids[prefix(b)] != both.ids[prefix(b)] || len(alone.ids) != 1 {
		t.Errorf("a prefix that stays changed from %v to %v: %v", both.ids, alone.ids, err)
	}
	// What stays keeps its number also where a newcomer's hash names it.
	again, err := NewLocals(map[netip.Prefix]model.IdentityID{prefix(b): localHash(prefix(a))}).Update([]netip.Prefix{prefix(a), prefix(b)})
	if err != nil || again.ids[prefix(b)] != localHash(prefix(a)) || again.ids[prefix(a)] == again.ids[prefix(b)] {
		t.Errorf("identities %v: %v", again.ids, err)
	}
	// To ask twice is to ask once.
	twice, err := both.Update([]netip.Prefix{prefix(a), prefix(b), prefix(a), prefix(b)})
	if err != nil || !maps.Equal(twice.ids, both.ids) {
		t.Errorf("asked for twice, the identities changed from %v to %v: %v", both.ids, twice.ids, err)
	}
}

func TestAddressesInsideTheClusterAreNeverTheWorld(t *testing.T) {
	wide, inside, outside := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	pods := netip.MustParsePrefix("10.1.0.0/16")
	locals := map[netip.Prefix]model.IdentityID{wide: 1 << 24, inside: 1<<24 + 1, outside: 1<<24 + 2}
	got := IPRows(locals, []netip.Prefix{pods})
	want := []model.IPRow{
		{Prefix: world4(), Identity: model.IdentityWorldIPv4},
		{Prefix: wide, Identity: 1 << 24},
		{Prefix: pods, Identity: model.IdentityUnknown},
		{Prefix: outside, Identity: 1<<24 + 2},
		{Prefix: world6(), Identity: model.IdentityWorldIPv6},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
