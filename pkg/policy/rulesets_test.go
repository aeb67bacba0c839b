// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/tests/policygen"
)

// asking is a policy that allows ingress and asks for a path.
func asking(name string, peer model.Peer, path string, ports ...model.PortRange) model.Policy {
	p := one(name, model.Ingress, model.ActionAllow, peer, ports...)
	p.Rules[0].L7 = &model.L7{HTTP: []model.HTTPRule{{Path: path}}}
	return p
}

// asked is what is asked of connections from app=b to a port: the names of the
// policies, and what else becomes of them.
func asked(t *testing.T, res policy.Result, port uint16) string {
	t.Helper()
	e := policygen.Lookup(res.Set.Entries, model.Ingress, 257, model.ProtoTCP, port)
	if e.Ruleset == 0 {
		return e.Action.String()
	}
	var names []string
	for _, r := range res.Rulesets[e.Ruleset-1].Rules {
		names = append(names, r.Policy.Name)
	}
	return fmt.Sprint(e.Action, " ", strings.Join(names, "+"))
}

func TestRulesetsOfOverlappingRules(t *testing.T) {
	any, b := model.Peer{Any: true}, model.Peer{Selector: &model.Selector{Requirements: []model.Requirement{
		{Source: "any", Key: "app", Operator: model.OpIn, Values: []string{"b"}}}}}
	for name, test := range map[string]struct {
		policies []model.Policy
		want     map[uint16]string
	}{
		"one": {
			[]model.Policy{asking("a", b, "/a", tcp(80, 80))},
			map[uint16]string{80: "allow a", 81: "none"},
		},
		"two for one peer and port": {
			[]model.Policy{asking("a", b, "/a", tcp(80, 80)), asking("c", b, "/c", tcp(80, 80))},
			map[uint16]string{80: "allow a+c"},
		},
		"of everybody and of the peer": {
			[]model.Policy{asking("a", any, "/a", tcp(80, 90)), asking("c", b, "/c", tcp(85, 95))},
			map[uint16]string{80: "allow a", 85: "allow a+c", 90: "allow a+c", 91: "allow c"},
		},
		"of a range and of a port in it": {
			[]model.Policy{asking("a", b, "/a", tcp(0, 65535)), asking("c", b, "/c", tcp(80, 80))},
			map[uint16]string{79: "allow a", 80: "allow a+c"},
		},
		"everybody may do more on the port": {
			[]model.Policy{one("a", model.Ingress, model.ActionAllow, any, tcp(80, 80)), asking("c", b, "/c", tcp(80, 81))},
			map[uint16]string{80: "allow", 81: "allow c"},
		},
		"the peer may do more": {
			[]model.Policy{asking("a", any, "/a", tcp(80, 81)), one("c", model.Ingress, model.ActionAllow, b, tcp(80, 80))},
			map[uint16]string{80: "allow", 81: "allow a"},
		},
		"the peer may do more on every port": {
			[]model.Policy{asking("a", b, "/a", tcp(80, 80)), one("c", model.Ingress, model.ActionAllow, b)},
			map[uint16]string{80: "allow", 81: "allow"},
		},
		"a deny of everybody": {
			[]model.Policy{asking("a", b, "/a", tcp(80, 81)), one("c", model.Ingress, model.ActionDeny, any, tcp(80, 80)), one("d", model.Ingress, model.ActionAllow, any, tcp(0, 65535))},
			map[uint16]string{80: "deny", 81: "allow"},
		},
		"a deny of the peer": {
			[]model.Policy{asking("a", any, "/a", tcp(80, 81)), one("c", model.Ingress, model.ActionDeny, b, tcp(81, 81))},
			map[uint16]string{80: "allow a", 81: "deny"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			res, _ := compileOne(t, policy.Inputs{Policies: test.policies})
			for port, want := range test.want {
				if got := asked(t, res, port); got != want {
					t.Errorf("port %d: %s, want %s; entries %+v", port, got, want, res.Set.Entries)
				}
			}
		})
	}
}

// A rule that changes changes what its ruleset says, and neither the set nor its place.
func TestAChangedRequestChangesTheRulesetAlone(t *testing.T) {
	in := policy.Inputs{Subjects: []policy.Subject{{Identity: 256}}}
	c := policy.NewCompiler()
	var before policy.Result
	for i, path := range []string{"/a", "/b"} {
		in.Policies = []model.Policy{asking("a", model.Peer{Any: true}, path, tcp(80, 80))}
		out, err := c.Update(in)
		if err != nil {
			t.Fatal(err)
		}
		now := out.Results[0]
		if got := now.Rulesets[0].Rules[0].L7.HTTP[0].Path; got != path || now.Rulesets[0].ID != 1 {
			t.Errorf("ruleset %+v, want one about %s", now.Rulesets, path)
		}
		if i > 0 && now.Set.Hash != before.Set.Hash {
			t.Error("the set changed, too")
		}
		before = now
	}
}

// A policy in audit takes nothing back of what others enforce.
func TestOneInAuditDoesNotUndoWhatOthersEnforce(t *testing.T) {
	strict, audit := asking("a", model.Peer{Any: true}, "/a", tcp(80, 80)), asking("b", model.Peer{Any: true}, "/b", tcp(80, 81))
	audit.Rules[0].L7.Audit = true
	res, _ := compileOne(t, policy.Inputs{Policies: []model.Policy{strict, audit}})
	var got []bool
	for _, port := range []uint16{80, 81} {
		e := policygen.Lookup(res.Set.Entries, model.Ingress, 257, model.ProtoTCP, port)
		got = append(got, res.Rulesets[e.Ruleset-1].Audit)
	}
	if !slices.Equal(got, []bool{false, true}) {
		t.Errorf("audit is %v", got)
	}
}
