// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/tests/policygen"
)

func key(name string) model.PolicyKey {
	return model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "x", Name: name}
}

// one is a policy about everybody, with one rule.
func one(name string, d model.Direction, a model.Action, peer model.Peer, ports ...model.PortRange) model.Policy {
	return model.Policy{Key: key(name), Rules: []model.Rule{{
		Direction: d, Action: a, Name: "rule", Peers: []model.Peer{peer}, Ports: ports,
	}}}
}

func tcp(first, last uint16) model.PortRange {
	return model.PortRange{Protocol: model.ProtoTCP, First: first, Last: last}
}

// compileOne compiles for one subject, 256, beside which 257 (app=b) and 258
// (app=c) are known.
func compileOne(t *testing.T, in policy.Inputs) (policy.Result, policy.RuleNumbers) {
	t.Helper()
	for i, app := range []string{"a", "b", "c"} {
		id := model.Identity{ID: model.MinClusterIdentity + model.IdentityID(i), Labels: model.NewLabels(label("app", app))}
		in.Identities = append(in.Identities, id)
		if i == 0 && in.Subjects == nil {
			in.Subjects = []policy.Subject{{Identity: id.ID, Labels: id.Labels}}
		}
	}
	locals, err := policy.Locals{}.Update(policy.Prefixes(in.Policies))
	if err != nil {
		t.Fatal(err)
	}
	in.Prefixes = locals.IDs()
	out, err := policy.Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Results[0], out.Rules
}

// A pod of which nothing is known yet may be one that a rule denies by its labels:
// no allow lets it pass, on the ports of the rule.
func TestAnUnknownPodDoesNotPassADeny(t *testing.T) {
	app := func(source string) model.Peer {
		return model.Peer{Selector: &model.Selector{Requirements: []model.Requirement{{Source: source, Key: "app", Operator: model.OpIn, Values: []string{"b"}}}}}
	}
	for _, tt := range []struct {
		deny model.Peer
		want [2]model.Action // port 80, which the rule names, and 81
	}{
		{app("k8s"), [2]model.Action{model.ActionDeny, model.ActionAllow}},
		{model.Peer{Selector: &model.Selector{}}, [2]model.Action{model.ActionDeny, model.ActionAllow}},
		{app(model.SourceReserved), [2]model.Action{model.ActionAllow, model.ActionAllow}},
		{model.Peer{Entity: "host"}, [2]model.Action{model.ActionAllow, model.ActionAllow}},
	} {
		for _, d := range []model.Direction{model.Ingress, model.Egress} {
			res, _ := compileOne(t, policy.Inputs{Policies: []model.Policy{
				one("deny", d, model.ActionDeny, tt.deny, tcp(80, 80)), one("allow", d, model.ActionAllow, model.Peer{Any: true}),
			}})
			for i, want := range tt.want {
				if got := policygen.Lookup(res.Set.Entries, d, model.IdentityUnknown, model.ProtoTCP, uint16(80+i)); got.Action != want {
					t.Errorf("deny of %+v, direction %v, port %d: %v, want %v", tt.deny, d, 80+i, got.Action, want)
				}
			}
		}
	}
}

// A narrow allow inside a wide deny, and the other way round, of one peer and
// of everybody: deny always wins.
func TestDenyWinsWhateverIsLonger(t *testing.T) {
	app := model.Selector{Requirements: []model.Requirement{{Source: "any", Key: "app", Operator: model.OpIn, Values: []string{"b"}}}}
	who := map[string]model.Peer{"any": {Any: true}, "app b": {Selector: &app}}
	for denied, deny := range who {
		for allowed, allow := range who {
			for _, ranges := range [][2]model.PortRange{{tcp(80, 80), tcp(0, 65535)}, {tcp(0, 65535), tcp(80, 80)}, {tcp(80, 80), tcp(80, 80)}} {
				res, rules := compileOne(t, policy.Inputs{Policies: []model.Policy{
					one("deny", model.Ingress, model.ActionDeny, deny, ranges[0]),
					one("allow", model.Ingress, model.ActionAllow, allow, ranges[1]),
				}})
				got := policygen.Lookup(res.Set.Entries, model.Ingress, 257, model.ProtoTCP, 80)
				if got.Action != model.ActionDeny || got.Rule != rules.ID(key("deny"), "rule") {
					t.Errorf("deny %s %v, allow %s %v: got %+v", denied, ranges[0], allowed, ranges[1], got)
				}
			}
		}
	}
}

// A row that adds nothing to the one around it is left out.
func TestRowsThatAddNothingAreLeftOut(t *testing.T) {
	any := model.Peer{Any: true}
	res, rules := compileOne(t, policy.Inputs{Policies: []model.Policy{
		one("a", model.Ingress, model.ActionAllow, any, tcp(80, 80)),
		one("b", model.Ingress, model.ActionAllow, any, tcp(0, 65535)),
		one("c", model.Ingress, model.ActionAllow, any, tcp(64, 127)),
	}})
	if len(res.Set.Entries) != 1 || res.Set.Entries[0].Rule != rules.ID(key("b"), "rule") {
		t.Errorf("entries %+v", res.Set.Entries)
	}
}

func TestNamedPorts(t *testing.T) {
	http := model.PortRange{Name: "http"}
	port := func(n uint16) []model.NamedPort {
		return []model.NamedPort{{Name: "http", Protocol: model.ProtoTCP, Port: n}}
	}
	in := policy.Inputs{
		Policies: []model.Policy{
			one("in", model.Ingress, model.ActionAllow, model.Peer{Any: true}, http),
			one("out", model.Egress, model.ActionAllow, model.Peer{Any: true}, http),
			one("udp", model.Egress, model.ActionAllow, model.Peer{Any: true}, model.PortRange{Name: "http", Protocol: model.ProtoUDP}),
		},
		Ports:    map[model.IdentityID][]model.NamedPort{257: port(8080), 258: port(9090)},
		Subjects: []policy.Subject{{Identity: 256, Labels: model.NewLabels(label("app", "a")), Ports: port(80)}},
	}
	res, _ := compileOne(t, in)
	type row struct {
		d    model.Direction
		peer model.IdentityID
		port uint16
	}
	var got []row
	for _, e := range res.Set.Entries {
		if e.Protocol != model.ProtoTCP || e.PortBits != 16 {
			t.Errorf("entry %+v", e)
		}
		got = append(got, row{e.Direction, e.Peer, e.Port})
	}
	want := []row{{model.Egress, 257, 8080}, {model.Egress, 258, 9090}, {model.Ingress, 0, 80}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The ports of peers change, and nothing else.
func TestPeersPortsMove(t *testing.T) {
	in := policy.Inputs{
		Policies: []model.Policy{one("out", model.Egress, model.ActionAllow, model.Peer{Any: true}, model.PortRange{Name: "http"})},
		Subjects: []policy.Subject{{Identity: 256}},
	}
	c := policy.NewCompiler()
	for _, port := range []uint16{80, 81} {
		in.Ports = map[model.IdentityID][]model.NamedPort{257: {{Name: "http", Protocol: model.ProtoTCP, Port: port}}}
		out, err := c.Update(in)
		if err != nil {
			t.Fatal(err)
		}
		if entries := out.Results[0].Set.Entries; len(entries) != 1 || entries[0].Port != port {
			t.Errorf("port %d: entries %+v", port, entries)
		}
	}
}

func TestIsolatingPolicies(t *testing.T) {
	a, b, c := one("a", model.Ingress, model.ActionAllow, model.Peer{}), one("b", model.Egress, model.ActionDeny, model.Peer{}), one("c", model.Egress, model.ActionDeny, model.Peer{})
	a.Isolate, b.Isolate = [2]bool{true, true}, [2]bool{true, false}
	second := a
	second.Spec, second.Rules = 1, nil
	c.Subject.Requirements = []model.Requirement{{Source: "any", Key: "app", Operator: model.OpIn, Values: []string{"c"}}}
	c.Isolate = [2]bool{true, true}
	res, _ := compileOne(t, policy.Inputs{Policies: []model.Policy{c, b, second, a}})
	if want := []model.PolicyKey{a.Key, b.Key}; !slices.Equal(res.Policies, want) || !slices.Equal(res.Isolated[model.Egress], want) {
		t.Errorf("policies %v, isolating egress %v", res.Policies, res.Isolated[model.Egress])
	}
	if !slices.Equal(res.Isolated[model.Ingress], []model.PolicyKey{a.Key}) || res.Isolate != [2]bool{true, true} {
		t.Errorf("isolating ingress %v, isolate %v", res.Isolated[model.Ingress], res.Isolate)
	}
	if len(res.Set.Entries) != 0 || res.HasRules != [2]bool{} || res.Set.Hash != (model.SetHash{}) {
		t.Errorf("rules without peers made %+v", res)
	}
}

func TestReservedIdentitiesBySelector(t *testing.T) {
	host := model.Selector{Requirements: []model.Requirement{{Source: model.SourceReserved, Key: "host", Operator: model.OpIn, Values: []string{""}}}}
	not := model.Selector{Requirements: []model.Requirement{{Source: model.SourceReserved, Key: "host", Operator: model.OpDoesNotExist}}}
	for name, test := range map[string]struct {
		sel  model.Selector
		want []model.IdentityID
	}{
		"host":     {host, []model.IdentityID{model.IdentityHost}},
		"not host": {not, []model.IdentityID{256, 257, 258}},
		"all pods": {model.Selector{}, []model.IdentityID{256, 257, 258}},
	} {
		res, _ := compileOne(t, policy.Inputs{Policies: []model.Policy{one("p", model.Egress, model.ActionAllow, model.Peer{Selector: &test.sel})}})
		var got []model.IdentityID
		for _, e := range res.Set.Entries {
			got = append(got, e.Peer)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestContradictions(t *testing.T) {
	p := one("p", model.Egress, model.ActionAllow, model.Peer{CIDR: netip.MustParsePrefix("10.0.0.0/8")})
	c := policy.NewCompiler()
	if _, err := c.Update(policy.Inputs{Policies: []model.Policy{p}}); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
		t.Errorf("a prefix without an identity: %v", err)
	}
	q := one("q", model.Egress, model.ActionAllow, model.Peer{Any: true})
	if _, err := c.Update(policy.Inputs{Policies: []model.Policy{q, q}}); err == nil || !strings.Contains(err.Error(), "x/q") {
		t.Errorf("a policy given twice: %v", err)
	}
}

// What must happen when a policy brings a prefix: the old rules over the new
// universe say of the new identity what they said of its addresses.
func TestOldRulesCoverNewPrefixes(t *testing.T) {
	wide := one("wide", model.Egress, model.ActionAllow, model.Peer{CIDR: netip.MustParsePrefix("10.0.0.0/8")})
	narrow := one("narrow", model.Egress, model.ActionDeny, model.Peer{CIDR: netip.MustParsePrefix("10.1.0.0/16")})
	locals, err := policy.Locals{}.Update(policy.Prefixes([]model.Policy{wide, narrow}))
	if err != nil {
		t.Fatal(err)
	}
	in := policy.Inputs{Policies: []model.Policy{wide}, Prefixes: locals.IDs(), Subjects: []policy.Subject{{Identity: 256}}}
	for _, want := range []model.Action{model.ActionAllow, model.ActionDeny} {
		out, err := policy.Compile(in)
		if err != nil {
			t.Fatal(err)
		}
		id := locals.IDs()[netip.MustParsePrefix("10.1.0.0/16")]
		if got := policygen.Lookup(out.Results[0].Set.Entries, model.Egress, id, model.ProtoTCP, 1); got.Action != want {
			t.Errorf("the new prefix gets %s, want %s", got.Action, want)
		}
		in.Policies = append(in.Policies, narrow)
	}
}

// Which of several rules is named must not change from day to day.
func TestTheFirstOfEqualRulesIsNamed(t *testing.T) {
	for _, action := range []model.Action{model.ActionAllow, model.ActionDeny} {
		p := one("p", model.Ingress, action, model.Peer{Any: true}, tcp(80, 80))
		for _, name := range []string{"second", "third"} {
			r := p.Rules[0]
			r.Name = name
			p.Rules = append(p.Rules, r)
		}
		later := one("q", model.Ingress, action, model.Peer{Any: true}, tcp(80, 80))
		res, rules := compileOne(t, policy.Inputs{Policies: []model.Policy{later, p}})
		e := policygen.Lookup(res.Set.Entries, model.Ingress, 257, model.ProtoTCP, 80)
		if e.Rule != rules.ID(key("p"), "rule") {
			ref, _ := rules.Ref(e.Rule)
			t.Errorf("%s: named is %+v", action, ref)
		}
	}
}
