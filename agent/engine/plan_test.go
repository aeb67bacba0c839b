// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

func policyFor(name, cidr string) model.Policy {
	return model.Policy{
		Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: name},
		Rules: []model.Rule{{
			Action: model.ActionAllow, Name: "egress[0]",
			Peers: []model.Peer{{CIDR: netip.MustParsePrefix(cidr)}},
		}},
	}
}

type nothingInForce struct{}

func (nothingInForce) held() map[model.IdentityID]bool { return nil }
func (nothingInForce) moving() bool                    { return false }

func mustPlan(t *testing.T, before memory, rules []model.Policy) []step {
	t.Helper()
	steps, err := plan(before, state.Snapshot{Policies: rules}, nothingInForce{})
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestPlanAddsIdentitiesBeforeRulesAndRemovesThemAfter(t *testing.T) {
	a, b := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	oldRules := []model.Policy{policyFor("p", a.String())}
	newRules := []model.Policy{policyFor("p", b.String())}
	before := memory{policies: oldRules, prefixes: prefixIDs{a: model.MinLocalIdentity + 3}}

	steps := mustPlan(t, before, newRules)

	type seen struct {
		rules               string
		universe, reachable []netip.Prefix
	}
	var got []seen
	for _, s := range steps {
		got = append(got, seen{s.policies[0].Rules[0].Peers[0].CIDR.String(), sorted(s.universe), sorted(s.reachable)})
	}
	both := []netip.Prefix{a, b}
	want := []seen{
		{a.String(), both, both},              // the old rules over the larger universe
		{b.String(), both, both},              // the new rules
		{b.String(), both, []netip.Prefix{b}}, // addresses leave the old prefix
		{b.String(), []netip.Prefix{b}, []netip.Prefix{b}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("steps\n got %v\nwant %v", got, want)
	}
	if steps[0].universe[a] != before.prefixes[a] {
		t.Errorf("prefix %v changed its number from %d to %d", a, before.prefixes[a], steps[0].universe[a])
	}
}

func TestPlanIsOneStepWhenPrefixesStay(t *testing.T) {
	rules := []model.Policy{policyFor("p", "192.0.2.0/24")}
	before := memory{policies: rules, prefixes: prefixIDs{netip.MustParsePrefix("192.0.2.0/24"): model.MinLocalIdentity + 3}}
	steps := mustPlan(t, before, []model.Policy{policyFor("q", "192.0.2.0/24")})
	if len(steps) != 1 {
		t.Fatalf("%d steps, want 1", len(steps))
	}
	if !reflect.DeepEqual(steps[0].universe, before.prefixes) {
		t.Errorf("the numbers moved from %v to %v", before.prefixes, steps[0].universe)
	}
}

// After a restart the old rules are not known: identities and rules come at once.
func TestPlanAfterRestartHasNoStepWithOldRules(t *testing.T) {
	old := netip.MustParsePrefix("203.0.113.0/24")
	before := memory{prefixes: prefixIDs{old: model.MinLocalIdentity + 7}}
	steps := mustPlan(t, before, []model.Policy{policyFor("p", "192.0.2.0/24")})
	for i, s := range steps {
		if s.policies[0].Key.Name != "p" {
			t.Errorf("step %d has rules that nobody asked for", i)
		}
	}
	last := steps[len(steps)-1]
	if _, kept := last.universe[old]; kept {
		t.Errorf("a prefix that no rule names stayed: %v", last.universe)
	}
	if id := last.universe[netip.MustParsePrefix("192.0.2.0/24")]; id == model.MinLocalIdentity+7 || !id.IsLocal() {
		t.Errorf("new prefix has number %d", id)
	}
}

func sorted(m map[netip.Prefix]model.IdentityID) []netip.Prefix {
	out := keys(m)
	if len(out) == 2 && out[0].Addr().Compare(out[1].Addr()) > 0 {
		out[0], out[1] = out[1], out[0]
	}
	return out
}
