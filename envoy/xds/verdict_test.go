// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"reflect"
	"regexp"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func TestVerdictsComeBack(t *testing.T) {
	for _, v := range []Verdict{
		{Outcome: Denied}, {Outcome: Faulty},
		{Outcome: Allowed, Policy: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "a", Name: "b"}, Rule: "ingress[0].toPorts[1].http[2]"},
		{Outcome: Allowed, Policy: model.PolicyKey{Kind: "WeftClusterNetworkPolicy", Name: "b"}, Rule: "r", Mismatch: []string{"x-a", "x-b"}},
	} {
		if got, ok := ParseVerdict(v.String()); !ok || !reflect.DeepEqual(got, v) {
			t.Errorf("%s came back as %+v", v, got)
		}
	}
}

func FuzzParseVerdict(f *testing.F) {
	for _, s := range []string{"", "deny", "allow|Kind ns/name|rule", "allow|Kind", "allow||", "other"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		v, ok := ParseVerdict(name)
		if !ok {
			return
		}
		if again, ok := ParseVerdict(v.String()); v.Policy.Kind != "" && (!ok || !reflect.DeepEqual(v, again)) {
			t.Errorf("%q: %+v, then %+v", name, v, again)
		}
	})
}

// FuzzExpressions: what is accepted is an expression that cannot reach beyond its
// place, and never a fault of the programmer.
func FuzzExpressions(f *testing.F) {
	for _, s := range []string{"", "/a", "/a/.*", "GET|POST", ")|(", `\Q`, "(?i)a", "[", "a{1001}", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		in := model.Rulesets{List: []model.Ruleset{{ID: 1, Rules: []model.RulesetRule{{
			Policy: model.PolicyKey{Kind: "K", Name: "n"}, Name: "r", L7: model.L7{HTTP: []model.HTTPRule{{Path: expr, Host: expr, Method: expr}}}}}}}}
		_, faults := Translate(in, Options{})
		if len(faults) > 0 {
			return
		}
		for _, placed := range []string{whole(expr), hostExpression(expr), "^" + whole(expr) + "$"} {
			if _, err := regexp.Compile(placed); err != nil {
				t.Errorf("%q was accepted: %v", expr, err)
			}
		}
	})
}
