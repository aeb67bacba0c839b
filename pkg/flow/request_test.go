// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

type origins map[model.RulesetID][]model.RulesetRule

func (o origins) Origins(id model.RulesetID) []model.RulesetRule { return o[id] }

// A world of one pod, and ruleset 7 of two policies' rules.
func requestWorld() (Names, Rulesets) {
	key := func(name string) model.PolicyKey {
		return model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: name}
	}
	return &Maps{
			Workloads: map[netip.Addr]Workload{netip.MustParseAddr("10.0.0.3"): {
				Pod: model.PodKey{Namespace: "demo", Name: "client"}, Identity: 300, Endpoint: 13,
				Owner: model.Workload{Kind: "Deployment", Name: "client"}}},
			Identities: map[model.IdentityID]model.Labels{300: model.NewLabels(model.Label{Source: "k8s", Key: "app", Value: "client"})},
		}, origins{7: {
			{Policy: key("a"), Name: "ingress[0].toPorts[0]", Direction: model.Ingress},
			{Policy: key("a"), Name: "ingress[1].toPorts[0]", Direction: model.Ingress},
			{Policy: key("b"), Name: "ingress[0].toPorts[0]", Direction: model.Ingress}}, 8: {
			{Policy: key("c"), Name: "egress[0].toPorts[0]", Direction: model.Egress},
			{Policy: key("a"), Name: "ingress[0].toPorts[0]", Direction: model.Ingress}}}
}

func event(outcome model.Outcome) RequestEvent {
	return RequestEvent{
		By:      []Decision{{Outcome: outcome}},
		Request: model.Request{Ruleset: 7, Protocol: "HTTP/1.1", Method: "GET", Path: "/a", Host: "web", Status: 200, GRPCStatus: -1},
		Time:    time.Unix(100, 0).UTC(), Took: time.Millisecond, Sent: 10, Received: 20,
		Source: netip.MustParseAddrPort("[::ffff:10.0.0.3]:4000"), Destination: netip.MustParseAddrPort("192.0.2.1:80"),
	}
}

func TestRequestsAreNamed(t *testing.T) {
	r := &Requests{Names: requestWorld, Store: NewStore(8)}
	for _, o := range []model.Outcome{model.RequestAllowed, model.RequestDenied, model.RequestAudited, model.RequestOpen, "odd"} {
		e := event(o)
		if o == model.RequestAllowed {
			e.By[0].Policy, e.By[0].Rule = model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "b"}, "ingress[0].toPorts[0].http[1]"
		}
		r.Add(e)
	}
	stored := r.Store.Reader(Start{}).Next().Flows
	want := map[int]struct {
		verdict agentv1.Verdict
		rules   string
	}{
		0: {agentv1.Verdict_VERDICT_FORWARDED, "b ingress[0].toPorts[0].http[1] allow"},
		1: {agentv1.Verdict_VERDICT_DROPPED, "a  deny, b  deny"},
		2: {agentv1.Verdict_VERDICT_AUDIT, "a  deny, b  deny"},
		3: {agentv1.Verdict_VERDICT_FORWARDED, ""},
		4: {agentv1.Verdict_VERDICT_DROPPED, "a  deny, b  deny"},
	}
	if len(stored) != len(want) {
		t.Fatalf("%d flows are stored", len(stored))
	}
	for i, f := range stored {
		var rules []string
		for _, ref := range f.Rules[model.Ingress] {
			rules = append(rules, ref.Policy.Name+" "+ref.Rule+" "+ref.Action.String())
		}
		if VerdictOf(f) != want[i].verdict || strings.Join(rules, ", ") != want[i].rules || len(f.Rules[model.Egress]) != 0 {
			t.Errorf("flow %d: %s by %v, want %+v", i, VerdictOf(f), f.Rules, want[i])
		}
		from, to := f.Peers[0], f.Peers[1]
		if from.Pod.Name != "client" || from.Identity != 300 || from.Addr.String() != "10.0.0.3" || len(from.Labels) != 1 || to.Pod.Name != "" || to.Port != 80 {
			t.Errorf("flow %d: peers %+v", i, f.Peers)
		}
	}
	if got := r.Counts(); got["forwarded"] != 2 || got["dropped"] != 2 || got["audit"] != 1 {
		t.Errorf("counts %v", got)
	}
}

// A flow is kept for long: it must not keep the whole record that it came in.
func TestFlowsKeepTheirOwnTexts(t *testing.T) {
	record := strings.Repeat("a", 1<<20)
	e := event(model.RequestDenied)
	e.Path = record[:100]
	names, rulesets := requestWorld()
	if f := EnrichRequest(&e, names, rulesets); f.Request.Path != record[:100] || unsafe.StringData(f.Request.Path) == unsafe.StringData(record) {
		t.Error("the path is a part of the record")
	}
}

// Of a pair's request both sides are told, and which of them decided.
func TestRequestsOfAPairAreNamed(t *testing.T) {
	names, rulesets := requestWorld()
	by := func(o model.Outcome, policy string) Decision {
		d := Decision{Outcome: o}
		if o == model.RequestAllowed {
			d.Policy, d.Rule = model.PolicyKey{Name: policy}, "http[0]"
		}
		return d
	}
	const allow, deny, audit, open = model.RequestAllowed, model.RequestDenied, model.RequestAudited, model.RequestOpen
	for i, test := range []struct {
		by      []Decision
		outcome model.Outcome
		side    model.Direction
		rules   string
	}{
		{[]Decision{by(allow, "c"), by(allow, "a")}, allow, model.Ingress, "[c http[0] allow] [a http[0] allow]"},
		{[]Decision{by(allow, "c"), by(deny, "")}, deny, model.Ingress, "[c http[0] allow] [a  deny]"},
		{[]Decision{by(deny, "")}, deny, model.Egress, "[c  deny] []"},
		{[]Decision{by("odd", "")}, "odd", model.Egress, "[c  deny] []"},
		{[]Decision{by(audit, ""), by(allow, "a")}, audit, model.Egress, "[c  deny] [a http[0] allow]"},
		{[]Decision{by(audit, ""), by(deny, "")}, deny, model.Ingress, "[c  deny] [a  deny]"},
		{[]Decision{by(open, ""), by(allow, "a")}, allow, model.Ingress, "[] [a http[0] allow]"},
		{[]Decision{by(allow, "c"), by(open, "")}, allow, model.Egress, "[c http[0] allow] []"},
		{[]Decision{by(open, ""), by(open, "")}, open, model.Ingress, "[] []"},
	} {
		e := event("")
		e.Request.Ruleset, e.By = 8, test.by
		f := EnrichRequest(&e, names, rulesets)
		var rules [2][]string
		for d, refs := range f.Rules {
			for _, ref := range refs {
				rules[d] = append(rules[d], ref.Policy.Name+" "+ref.Rule+" "+ref.Action.String())
			}
		}
		if got := fmt.Sprint(rules[0], " ", rules[1]); f.Request.Outcome != test.outcome || f.Direction != test.side || got != test.rules {
			t.Errorf("%d: %s by %s, %s; want %+v", i, f.Request.Outcome, f.Direction, got, test)
		}
	}
}

// The API carries all of it, there and back, and whatever a client sent.
func TestRequestsThroughTheAPI(t *testing.T) {
	names, rulesets := requestWorld()
	e := event(model.RequestDenied)
	e.Request.Mismatch, e.Request.GRPCStatus, e.Request.Detail = []string{"x-a"}, 7, "why"
	f := EnrichRequest(&e, names, rulesets)
	if back := FromProto(ToProto(f)); !reflect.DeepEqual(back.Request, f.Request) || back.Type != model.FlowRequest || back.Age != f.Age || back.Bytes != f.Bytes {
		t.Errorf("back came %+v, not %+v", back.Request, f.Request)
	}
	e.Request.Path = "/\xff" + strings.Repeat("a", 5000)
	p := ToProto(EnrichRequest(&e, names, rulesets))
	if got := p.GetRequest().GetPath(); !strings.HasPrefix(got, "/\ufffdaaa") || len(got) > maxText+3 {
		t.Errorf("path %q of %d bytes", got[:8], len(got))
	}
	if plain := event(model.RequestAllowed); ToProto(EnrichRequest(&plain, names, rulesets)).GetRequest().GrpcStatus != nil {
		t.Error("a request that is not gRPC has a status of it")
	}
}
