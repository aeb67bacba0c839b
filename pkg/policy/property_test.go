// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/reference"
	"github.com/weftmesh/weft/tests/policygen"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if err := policygen.Fix("400"); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// parties are all that a pod may talk with, with the identity each has.
func parties(w *policygen.World) (who []reference.Party, ids []model.IdentityID) {
	for i, p := range w.Pods {
		who, ids = append(who, p), append(ids, model.MinClusterIdentity+model.IdentityID(i))
	}
	for id, name := range model.ReservedNames() {
		if id != model.IdentityWorldIPv4 && id != model.IdentityWorldIPv6 {
			who, ids = append(who, reference.Party{Reserved: name}), append(ids, id)
		}
	}
	for _, a := range policygen.Addresses() {
		who, ids = append(who, reference.Party{Addr: a}), append(ids, policygen.IdentityOf(w.Rows, a))
	}
	return who, ids
}

func TestCompiledRowsAgreeWithReference(t *testing.T) {
	questions, proxied := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := policygen.NewWorld(t, policy.Locals{}, nil)
		out, err := policy.Compile(w.In)
		if err != nil {
			t.Fatal(err)
		}
		who, ids := parties(&w)
		for i, res := range out.Results {
			checkRows(t, res.Set.Entries)
			checkRulesets(t, res)
			for range 40 {
				n := rapid.IntRange(0, len(who)-1).Draw(t, "who")
				q := reference.Question{Subject: w.Pods[i], Peer: who[n], Direction: policygen.Pick(t, "dir", model.Egress, model.Ingress)}
				if e, ok := withRuleset(t, res); ok {
					q.Direction, q.Protocol, q.Port = e.Direction, e.Protocol, e.Port
					if m := slices.Index(ids, e.Peer); m >= 0 {
						n, q.Peer = m, who[m]
					}
					if ask(t, w, out, res, q, ids[n]) {
						proxied++
					}
					questions++
				}
				q.Protocol = policygen.Pick(t, "proto", model.ProtoTCP, model.ProtoTCP, model.ProtoUDP, model.ProtoICMP, 112, 47)
				if q.Protocol != 112 && q.Protocol != 47 {
					q.Port = policygen.Pick(t, "port", uint16(0), 50, 53, 79, 80, 81, 82, 110, 111, 1000, 8<<8, 8<<8|1, 65535)
				}
				if ask(t, w, out, res, q, ids[n]) {
					proxied++
				}
				questions++
			}
		}
	})
	t.Logf("%d questions", questions)
	if proxied < questions/20 {
		t.Errorf("%d of %d answers have a ruleset, want more", proxied, questions)
	}
}

func ask(t *rapid.T, w policygen.World, out policy.Output, res policy.Result, q reference.Question, peer model.IdentityID) (proxied bool) {
	want := reference.Decide(w.In.Policies, q)
	got := policygen.Lookup(res.Set.Entries, q.Direction, peer, q.Protocol, q.Port)
	passes := got.Action == model.ActionAllow || got.Action == model.ActionNone && !res.Isolate[q.Direction]
	if got.Action != want.Action || passes != want.Passes {
		t.Fatalf("%+v (identity %d): rows say %s (passes %v), the rules say %+v\npolicies %+v\nentries %+v",
			q, peer, got.Action, passes, want, w.In.Policies, res.Set.Entries)
	}
	if got.Action == model.ActionNone {
		return false
	}
	if ref, ok := out.Rules.Ref(got.Rule); !ok || !slices.Contains(want.Rules, ref) {
		t.Fatalf("%+v: the row names rule %+v, which is none of %+v", q, ref, want.Rules)
	}
	if asked := origins(res, got.Ruleset); !slices.Equal(asked, sorted(want.L7)) {
		t.Fatalf("%+v (identity %d): the row asks for %+v, the rules for %+v\npolicies %+v\nentries %+v",
			q, peer, asked, want.L7, w.In.Policies, res.Set.Entries)
	}
	if !res.HasRules[q.Direction] {
		t.Fatalf("%+v: a row matches, but the set is said to have none", q)
	}
	return got.Ruleset != 0
}

// withRuleset is an entry that has one.
func withRuleset(t *rapid.T, res policy.Result) (model.PolicyEntry, bool) {
	var all []model.PolicyEntry
	for _, e := range res.Set.Entries {
		if e.Ruleset != 0 {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return model.PolicyEntry{}, false
	}
	return policygen.Pick(t, "entry", all...), true
}

// origins are the rules that a ruleset of a result is made of.
func origins(res policy.Result, id model.RulesetID) (out []model.RuleRef) {
	if id == 0 {
		return nil
	}
	for _, r := range res.Rulesets[id-1].Rules {
		out = append(out, model.RuleRef{Policy: r.Policy, Rule: r.Name, Action: model.ActionAllow})
	}
	return out
}

func sorted(refs []model.RuleRef) []model.RuleRef {
	slices.SortFunc(refs, func(a, b model.RuleRef) int {
		return cmp.Or(policy.ComparePolicyKeys(a.Policy, b.Policy), cmp.Compare(a.Rule, b.Rule))
	})
	return refs
}

// A compiler that has seen other inputs, in another order, answers as a new one.
// Some of the policies stay from step to step while the pods change.
func TestHistoryAndOrderDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := policy.NewCompiler()
		var local policy.Locals
		base := policygen.Policies(t)
		for range 4 {
			w := policygen.NewWorld(t, local, nil)
			w.In.Policies = policygen.Shuffle(t, base)[:rapid.IntRange(0, len(base)).Draw(t, "kept")]
			var err error
			if local, err = w.Local.Update(policy.Prefixes(base)); err != nil {
				t.Fatal(err)
			}
			w.In.Prefixes = local.IDs()
			want, err := policy.Compile(w.In)
			if err != nil {
				t.Fatal(err)
			}
			in := w.In
			in.Policies, in.Identities = policygen.Shuffle(t, in.Policies), policygen.Shuffle(t, in.Identities)
			got, err := c.Update(in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
		}
	})
}

func TestLocalsKeepNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := policygen.Prefixes()
		first := policygen.Shuffle(t, all)[:rapid.IntRange(0, len(all)).Draw(t, "n")]
		second := policygen.Shuffle(t, all)[:rapid.IntRange(0, len(all)).Draw(t, "m")]
		a, err := policy.Locals{}.Update(first)
		if err != nil {
			t.Fatal(err)
		}
		b, err := a.Update(second)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := policy.Locals{}.Update(second)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[model.IdentityID]netip.Prefix{}
		for p, id := range b.IDs() {
			if before, ok := a.IDs()[p]; ok && before != id {
				t.Fatalf("%s had %d and has %d", p, before, id)
			}
			if other, twice := seen[id]; twice || !id.IsLocal() || p.Bits() == 0 {
				t.Fatalf("%s and %s have %d", p, other, id)
			}
			seen[id] = p
		}
		if !reflect.DeepEqual(b.IDs(), fresh.IDs()) {
			t.Fatalf("a fresh table is %v, not %v", fresh.IDs(), b.IDs())
		}
	})
}
