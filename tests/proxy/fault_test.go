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

// added is a ruleset with a rule of another policy, too.
func added(rs model.Ruleset, name string, l7 model.L7) model.Ruleset {
	rs.Rules = append(rs.Rules[:len(rs.Rules):len(rs.Rules)], model.RulesetRule{Policy: policy(name), Name: rs.Rules[0].Name, L7: l7})
	return rs
}

// TestAFaultIsOfItsRuleAlone: a rule that cannot be said allows nothing, and takes nothing
// from what other rules allow.
func TestAFaultIsOfItsRuleAlone(t *testing.T) {
	sound := httpRules(1, model.HTTPRule{Path: "/a"})
	rs := added(sound, "bad", model.L7{HTTP: []model.HTTPRule{{Path: "/b"}, {Path: "/c("}}})
	inEachPlace(t, rs, func(t *testing.T, rulesets []model.Ruleset) {
		r := newRig(t, backend(t, http.HandlerFunc(echo)), rulesets...)
		conn := keepOpen(t, 1)
		ask := func(what string, a, b int) {
			t.Helper()
			for path, want := range map[string]int{"/a": a, "/b": b} {
				if got, err := conn.get(path); got != want || err != nil {
					t.Errorf("%s: %s: %d, %v; want %d", what, path, got, err, want)
				}
			}
		}
		ask("with a fault", 200, 403)
		if _, text := call(t, request(t, 1, "GET /b")); !strings.Contains(text, "denied by policy") || !strings.Contains(text, "a rule has a fault") || !strings.Contains(text, "shop/bad") {
			t.Errorf("the answer is %q", text)
		}
		r.events.wait(t, "why", func(e accesslog.Event) bool { return e.Path == "/b" && e.Verdict.Outcome == xds.Faulty })
		faults := r.xds.FaultList()
		if len(faults) != 1 || faults[0].Policy != policy("bad") || faults[0].Rule == "" || !strings.Contains(faults[0].Text, "http[1]: path") {
			t.Errorf("faults %v", faults)
		}
		for i, of := range rulesets {
			if of.Then != nil && of.ID == 1 {
				then := *of.Then
				of.Audit, then.Audit, of.Then = true, true, &then
			}
			of.Audit = true
			rulesets[i] = of
		}
		r.update(rulesets...)
		ask("in audit", 200, 200)
	})
}

// TestWhatAFaultyRuleWouldChangeIsRefused: another rule would let it pass as it is.
func TestWhatAFaultyRuleWouldChangeIsRefused(t *testing.T) {
	guard := model.HTTPRule{Path: "/admin", Headers: []model.HeaderMatch{{Name: "x-role", Value: "user", Mismatch: model.MismatchReplace}}}
	broken := guard
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		broken.Headers = append(broken.Headers, model.HeaderMatch{Name: name, Value: "v", Mismatch: model.MismatchLog})
	}
	everywhere := broken
	everywhere.Path = "/a("
	for name, c := range map[string]struct {
		rule         model.HTTPRule
		admin, other int
	}{"sound": {guard, 200, 200}, "with a fault": {broken, 403, 200}, "with a fault in its path": {everywhere, 403, 403}} {
		rs := added(httpRules(1, c.rule), "wide", model.L7{HTTP: []model.HTTPRule{{Path: "/.*"}}})
		inEachPlace(t, rs, func(t *testing.T, rulesets []model.Ruleset) {
			newRig(t, backend(t, http.HandlerFunc(echo)), rulesets...)
			for path, want := range map[string]int{"/admin": c.admin, "/other": c.other} {
				got, text := call(t, request(t, 1, "GET "+path+" h x-role=admin"))
				if got != want || path == "/admin" && strings.Contains(text, "X-Role: admin") {
					t.Errorf("%s: %s: %d, want %d: %s", name, path, got, want, text)
				}
			}
		})
	}
}

// TestAFaultyNameIsOfItsRuleAlone is the same for names of TLS, whose listener keeps its shape.
func TestAFaultyNameIsOfItsRuleAlone(t *testing.T) {
	tls := asking(1, model.L7{ServerNames: []string{"a.example", "a..b"}})
	r := newRig(t, backend(t, http.HandlerFunc(echo)), tls, added(model.Ruleset{ID: 2, Rules: tls.Rules}, "web", model.L7{HTTP: []model.HTTPRule{{Path: "/a"}}}))
	r.listening(1)
	r.listening(2)
	if got := raw(t, 1, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", ""); got != "" {
		t.Errorf("what is no TLS got %q", got)
	}
	if got, _ := call(t, request(t, 2, "GET /a")); got != 200 {
		t.Errorf("another rule allows it: %d", got)
	}
	r.events.wait(t, "why", func(e accesslog.Event) bool { return e.Ruleset == 1 && e.Verdict.Outcome == xds.Faulty })
}
