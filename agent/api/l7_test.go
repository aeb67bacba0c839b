// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

func policyKey(name string) model.PolicyKey {
	return model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: name}
}

// bookView has ruleset 7 in force, for policy a, and three that are retired.
func bookView() *engine.View {
	own := func(id model.RulesetID, names ...string) model.Ruleset {
		r := model.Ruleset{ID: id}
		for _, n := range names {
			r.Rules = append(r.Rules, model.RulesetRule{Policy: policyKey(n), Name: "ingress[0].toPorts[0]", L7: model.L7{
				HTTP: []model.HTTPRule{{}, {Method: "GET", Path: "/a", Host: "web", Headers: []model.HeaderMatch{{Name: "x-a"}, {Name: "x-b", Value: "c", Mismatch: model.MismatchAdd}}}},
				GRPC: []model.GRPCRule{{Service: "a.B"}}, ServerNames: []string{"a", "b"}}})
		}
		return r
	}
	return &engine.View{Policies: []engine.PolicyView{{Policy: model.Policy{Key: policyKey("a")}}, {Policy: model.Policy{Key: policyKey("b")}, Message: "no pod has that label"}},
		Rulesets: rulesets.NewBook([]rulesets.Row{{Own: own(7, "a")}, {Own: own(8, "b"), Retired: true, As: 7},
			{Own: own(9, "a", "b"), Retired: true, Open: true}, {Own: own(10, "c"), Retired: true}}, nil)}
}

func l7Server(l L7) *Server {
	return New(Config{View: bookView, L7: l, PolicyFaults: func() map[model.PolicyKey]PolicyFault { return nil }})
}

func TestRulesetsAreListed(t *testing.T) {
	s := l7Server(L7{
		InUse: func() (map[model.RulesetID]bool, error) { return map[model.RulesetID]bool{8: true}, nil },
		Faults: func() []ProxyFault {
			return []ProxyFault{{Ruleset: 10, Text: "bad"}, {Ruleset: 9, Policy: policyKey("b"), Rule: "ingress[0].toPorts[0]", Text: "worse"},
				{Ruleset: 7, Policy: policyKey("a"), Text: "worst"}}
		},
	})
	got, err := s.ListRulesets(t.Context(), &agentv1.ListRulesetsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range got.GetRulesets() {
		lines = append(lines, fmt.Sprintf("%d %s %q %d rules, ready %d, used %d, %s", r.GetNumber(), r.GetState(), r.GetSays(), len(r.GetRules()), r.GetReady(), r.GetConnections(), strings.Join(r.GetFaults(), "|")))
	}
	want := `7 in force "" 1 rules, ready 0, used 2, worst
8 retired "as 7" 1 rules, ready 0, used 1, 
9 retired "open" 2 rules, ready 0, used 2, |worse
10 retired "" 1 rules, ready 0, used 2, |bad`
	if text := strings.Join(lines, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if got, want := got.GetRulesets()[0].GetAsks()[0], "* *; GET web/a x-a x-b: c (else add); gRPC a.B/*; TLS to a, b"; got != want {
		t.Errorf("asks %q, want %q", got, want)
	}
	s.cfg.L7.Ready = func() (map[model.RulesetID]bool, error) { return nil, errors.New("unreadable") }
	if _, err := s.ListRulesets(t.Context(), &agentv1.ListRulesetsRequest{}); err == nil {
		t.Error("no error")
	}
}

// A pair has the rules of both its rulesets, and what is wrong with it is told on the
// policies of both.
func TestPairsAreListed(t *testing.T) {
	s := l7Server(L7{Faults: func() []ProxyFault {
		return []ProxyFault{{Ruleset: 5, Text: "bad"}, {Ruleset: 7, Policy: policyKey("a"), Rule: "ingress[0].toPorts[0]", Text: "worse"}}
	}})
	view := bookView()
	rows := view.Rulesets.Rows()
	rows[1].Own.Rules[0].Name = "egress[0].toPorts[0]"
	view.Rulesets = rulesets.NewBook(rows, []rulesets.Pair{{ID: 5, First: 8, Then: 7}, {ID: 6, First: 8, Then: 9, Retired: true}})
	s.cfg.View = func() *engine.View { return view }
	got, err := s.ListRulesets(t.Context(), &agentv1.ListRulesetsRequest{})
	if err != nil || len(got.GetRulesets()) != 6 {
		t.Fatalf("%v: %v", got, err)
	}
	for i, want := range []string{"5 in force [8 7] b egress[0].toPorts[0] a ingress[0].toPorts[0] |worse|bad", "6 retired [8 9] b egress[0].toPorts[0] a ingress[0].toPorts[0] b ingress[0].toPorts[0] "} {
		r := got.GetRulesets()[i]
		var rules []string
		for _, ref := range r.GetRules() {
			rules = append(rules, ref.GetName(), ref.GetRule())
		}
		if text := fmt.Sprintf("%d %s %v %s %s", r.GetNumber(), r.GetState(), r.GetPair(), strings.Join(rules, " "), strings.Join(r.GetFaults(), "|")); text != want || len(r.GetAsks()) != len(r.GetRules()) {
			t.Errorf("got %s, want %s", text, want)
		}
	}
	messages := s.proxyMessages(view)
	for _, name := range []string{"a", "b"} {
		if !strings.Contains(messages[policyKey(name)], "ruleset 5 is not in force") {
			t.Errorf("policy %s: %q", name, messages[policyKey(name)])
		}
	}
}

func TestFaultsOfTheProxyAreToldOnPolicies(t *testing.T) {
	s := l7Server(L7{Faults: func() []ProxyFault {
		return []ProxyFault{{Ruleset: 7, Policy: policyKey("a"), Text: "first"}, {Ruleset: 9, Text: "second"},
			{Ruleset: 7, Policy: policyKey("a"), Rule: "ingress[0]", Text: "third"}, {Ruleset: 8, Policy: policyKey("a"), Rule: "ingress[0]", Text: "third"}, {Ruleset: 10, Policy: policyKey("gone"), Text: "fourth"}}
	}})
	got, err := s.ListPolicies(t.Context(), &agentv1.ListPoliciesRequest{})
	if err != nil || len(got.GetPolicies()) != 2 {
		t.Fatalf("%v: %v", got, err)
	}
	for i, want := range []string{"ruleset 7 is not in force as it is written: first; ruleset 9 is not in force as it is written: second; third", "no pod has that label"} {
		if text := got.GetPolicies()[i].GetMessage(); text != want {
			t.Errorf("message %q, want %q", text, want)
		}
	}
}

func TestTheProxysLine(t *testing.T) {
	config := func(proxies uint32, acked uint64) func() *agentv1.ListProxyConfigResponse {
		return func() *agentv1.ListProxyConfigResponse {
			return &agentv1.ListProxyConfigResponse{Proxies: proxies, WantedRevision: 4, AcknowledgedRevision: acked}
		}
	}
	const ok, degraded = agentv1.Health_HEALTH_OK, agentv1.Health_HEALTH_DEGRADED
	for want, test := range map[string]struct {
		l7     L7
		health agentv1.Health
	}{
		"none is connected to the agent: unless one goes on with what it was told last, connections of 4 rulesets are refused": {L7{}, degraded},
		"4 rulesets, the newest not acknowledged yet": {L7{Config: config(1, 3)}, ok},
		"4 rulesets, acknowledged":                    {L7{Config: config(1, 4)}, ok},
		"bad; 4 rulesets, acknowledged": {L7{Config: config(2, 4), Faults: func() []ProxyFault {
			return []ProxyFault{{Text: "bad"}}
		}}, degraded},
	} {
		if got := l7Server(test.l7).proxyStatus(); got.GetMessage() != want || got.GetHealth() != test.health {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	refusing := func(l L7) string {
		view := &engine.View{Refused: 2}
		return New(Config{View: func() *engine.View { return view }, L7: l}).proxyStatus().GetMessage()
	}
	wait := func(context.Context) error { return nil }
	for want, got := range map[string]string{
		"this agent has no proxy, as envoy.binary is empty in its configuration: connections of 2 rulesets are refused": refusing(L7{}),
		"connections of 2 rulesets more than the 1000 that a node may have are refused":                                 refusing(L7{Wait: wait}),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	s := New(Config{View: func() *engine.View { return &engine.View{} }})
	if got := s.proxyStatus(); got.GetHealth() != ok || !strings.HasPrefix(got.GetMessage(), "not needed") {
		t.Errorf("without rulesets: %s", got)
	}
}

// A wait is for the proxy, too: one that is to come, but not one that is not.
func TestWaitingForTheProxy(t *testing.T) {
	looked, waited := 0, 0
	s := l7Server(L7{
		Wait: func(context.Context) error { waited++; return nil },
		Config: func() *agentv1.ListProxyConfigResponse {
			looked++
			return &agentv1.ListProxyConfigResponse{Proxies: uint32(looked / 3)}
		},
	})
	if err := s.waitProxy(t.Context()); err != nil || looked != 3 || waited != 3 {
		t.Errorf("%v, looked %d times, waited %d times", err, looked, waited)
	}
	s = l7Server(L7{Wait: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.waitProxy(ctx); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "has not acknowledged") {
		t.Errorf("got %v", err)
	}
}
