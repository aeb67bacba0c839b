// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// sided are HTTP rules of a policy for one direction.
func sided(id model.RulesetID, name string, d model.Direction, rules ...model.HTTPRule) model.Ruleset {
	return model.Ruleset{ID: id, Rules: []model.RulesetRule{{Policy: policy(name), Name: d.String() + "[0].toPorts[0]", Direction: d,
		L7: model.L7{HTTP: rules}}}}
}

// paired are two rulesets, and a pair of them with a number.
func paired(id model.RulesetID, first, then model.Ruleset) []model.Ruleset {
	pair := first
	pair.ID, pair.Then = id, &then
	return []model.Ruleset{first, then, pair}
}

// inEachPlace does a test with a ruleset alone, and with it as either of a pair whose other
// one lets everything pass. Its number is that of the pair then.
func inEachPlace(t *testing.T, rs model.Ruleset, test func(*testing.T, []model.Ruleset)) {
	all := sided(12, "all", model.Egress, model.HTTPRule{})
	one := rs
	one.ID = 11
	t.Run("alone", func(t *testing.T) { test(t, []model.Ruleset{rs}) })
	t.Run("first of a pair", func(t *testing.T) { test(t, paired(rs.ID, one, all)) })
	t.Run("second of a pair", func(t *testing.T) { test(t, paired(rs.ID, all, one)) })
}

// withoutRules are the rulesets with nothing that they allow.
func withoutRules(of []model.Ruleset) (out []model.Ruleset) {
	for _, r := range of {
		r.Rules = nil
		if r.Then != nil {
			r.Then = &model.Ruleset{ID: r.Then.ID}
		}
		out = append(out, r)
	}
	return out
}

func cart(rules ...model.HTTPRule) model.Ruleset { return sided(1, "cart", model.Egress, rules...) }
func items(rules ...model.HTTPRule) model.Ruleset {
	return sided(2, "items", model.Ingress, rules...)
}

// A request passes a pair if both rulesets let it; who does not is named.
func TestAPairAsksBoth(t *testing.T) {
	first := []model.HTTPRule{{Path: "/a"}, {Path: "/both.*"}, {Path: "/x.*", Headers: []model.HeaderMatch{
		{Name: "x-set", Value: "50%", Mismatch: model.MismatchReplace}, {Name: "x-more", Value: "v", Mismatch: model.MismatchAdd},
		{Name: "x-gone", Value: "w", Mismatch: model.MismatchDelete}, {Name: "x-told", Value: "u", Mismatch: model.MismatchLog}}}}
	then := []model.HTTPRule{{Path: "/b"}, {Method: "GET", Path: "/both.*"},
		{Path: "/x/set", Headers: []model.HeaderMatch{{Name: "x-set", Value: "50%"}}},
		{Path: "/x/more", Headers: []model.HeaderMatch{{Name: "x-more", Value: "v"}}},
		{Path: "/x/gone", Headers: []model.HeaderMatch{{Name: "x-gone"}}},
		{Path: "/x/late", Headers: []model.HeaderMatch{{Name: "x-set", Value: "late", Mismatch: model.MismatchReplace}}}}
	r := newRig(t, backend(t, http.HandlerFunc(echo)), paired(3, cart(first...), items(then...))...)
	const byFirst, byThen = "WeftNetworkPolicy shop/cart", "WeftNetworkPolicy shop/items"
	for _, c := range []struct {
		text string
		want int
		has  string // in the answer
	}{
		{"GET /both?q=1", 200, "GET /both?q=1"}, {"POST /both", 403, byThen}, {"GET /a", 403, byThen}, {"GET /b", 403, byFirst},
		{"GET /neither", 403, byFirst}, {"GET /both/../b", 403, byFirst}, {"GET /both/..%3Bx/b", 403, "segment"}, {"GET /both%2fb", 400, ""},
		{"GET /b h x-weft-look=second", 403, byFirst}, {"GET /b h x-weft-look=second x-weft-look=second", 403, byFirst},
		{"GET /x/set", 200, "X-Set: 50%"}, {"GET /x/set h x-set=1", 200, "X-Set: 50%"}, {"GET /x/more", 200, "X-More: v"}, {"GET /x/more h x-more=1", 403, byThen},
		{"GET /x/gone h x-gone=w", 200, "X-Gone: w"}, {"GET /x/gone h x-gone=1", 403, byThen}, {"GET /x/late", 200, "X-Set: late"},
	} {
		got, text := call(t, request(t, 3, c.text))
		if got != c.want || !strings.Contains(text, c.has) || strings.Contains(strings.ToLower(text), "x-weft") {
			t.Errorf("%s: %d %q, want %d %q", c.text, got, text, c.want, c.has)
		}
		if c.has == byThen && strings.Contains(text, byFirst) || c.has == byFirst && strings.Contains(text, byThen) {
			t.Errorf("%s: both are named: %s", c.text, text)
		}
	}
	for path, want := range map[string][2]xds.Verdict{
		"/both": {{Outcome: xds.Allowed, Policy: policy("cart"), Rule: "egress[0].toPorts[0].http[1]"}, {Outcome: xds.Allowed, Policy: policy("items"), Rule: "ingress[0].toPorts[0].http[1]"}},
		"/a":    {{Outcome: xds.Allowed, Policy: policy("cart"), Rule: "egress[0].toPorts[0].http[0]"}, {Outcome: xds.Denied}},
		"/b":    {{Outcome: xds.Denied}, {Outcome: xds.Denied}},
	} {
		ev := r.events.wait(t, path, func(e accesslog.Event) bool { return e.Path == path && e.Method == http.MethodGet })
		if ev.Ruleset != 3 || ev.First.String() != want[0].String() || ev.Verdict.String() != want[1].String() {
			t.Errorf("%s: ruleset %d, %+v, then %+v; want %+v", path, ev.Ruleset, ev.First, ev.Verdict, want)
		}
	}
}

// TestAPairIsAsItsRulesetsAre: a change of either reaches the next request of a connection
// that is open, and what has a fault in either is refused.
func TestAPairIsAsItsRulesetsAre(t *testing.T) {
	a, b := model.HTTPRule{Path: "/a"}, model.HTTPRule{Path: "/b"}
	r := newRig(t, backend(t, http.HandlerFunc(echo)), paired(3, cart(a), items(a))...)
	conn := keepOpen(t, 3)
	open := func(rs model.Ruleset) model.Ruleset { rs.Open = true; return rs }
	audit := func(rs model.Ruleset) model.Ruleset { rs.Audit = true; return rs }
	tls := items()
	tls.Rules[0].L7 = model.L7{ServerNames: []string{"a.example"}}
	for i, step := range []struct {
		first, then model.Ruleset
		a, b        int
	}{
		{cart(a), items(a), 200, 403},
		{cart(b), items(a), 403, 403},
		{cart(b), items(b), 403, 200},
		{cart(a, b), items(b), 403, 200},
		{cart(a, b), items(model.HTTPRule{Path: "/a("}), 403, 403},
		{cart(model.HTTPRule{Path: "/a("}), items(a, b), 403, 403},
		{open(cart(a)), items(b), 403, 200},
		{cart(a), open(items(b)), 200, 403},
		{open(cart(a)), open(items(a)), 200, 200},
		{audit(cart(a)), items(b), 403, 200},
		{cart(a), audit(items(b)), 200, 403},
		{cart(a), tls, 403, 403},
		{cart(a), items(a, b), 200, 403},
	} {
		r.update(paired(3, step.first, step.then)...)
		for path, want := range map[string]int{"/a": step.a, "/b": step.b} {
			if got, err := conn.get(path); got != want || err != nil {
				t.Errorf("step %d, %s: %d, %v; want %d", i, path, got, err, want)
			}
		}
	}
}
