// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func (a *agent) ListRulesets(context.Context, *agentv1.ListRulesetsRequest) (*agentv1.ListRulesetsResponse, error) {
	rule := func(policy, place string) *agentv1.RuleRef {
		return &agentv1.RuleRef{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: policy, Rule: place, Action: "allow"}
	}
	return &agentv1.ListRulesetsResponse{Rulesets: []*agentv1.Ruleset{
		{Number: 7, State: "in force", Ready: agentv1.Readiness_READINESS_YES, Connections: agentv1.Readiness_READINESS_YES, Audit: true,
			Rules:  []*agentv1.RuleRef{rule("a", "ingress[0].toPorts[0]"), rule("b", "ingress[1].toPorts[2]")},
			Asks:   []string{"GET /a; POST /b.*", "gRPC helloworld.Greeter"},
			Faults: []string{"", "ingress[1].toPorts[2] allows nothing: it is wrong"}},
		{Number: 12, State: "retired", Says: "as 7", Ready: agentv1.Readiness_READINESS_NO, Faults: []string{"the proxy refuses it"},
			Rules: []*agentv1.RuleRef{rule("a", "ingress[0].toPorts[0]")}, Asks: []string{"GET /a"}},
		{Number: 31, State: "in force", Ready: agentv1.Readiness_READINESS_YES, Pair: []uint32{9, 7},
			Rules: []*agentv1.RuleRef{rule("c", "egress[0].toPorts[0]"), rule("a", "ingress[0].toPorts[0]")}, Asks: []string{"* /b.*", "GET /a"}},
	}}, nil
}

func (a *agent) ListProxyConfig(context.Context, *agentv1.ListProxyConfigRequest) (*agentv1.ListProxyConfigResponse, error) {
	return &agentv1.ListProxyConfigResponse{Proxies: 2, WantedRevision: 4, AcknowledgedRevision: 3, Objects: []*agentv1.ProxyObject{
		{Type: "cluster", Name: "original-destination", Version: "c1", Standing: "in force"},
		{Type: "route", Name: "ruleset-7", Ruleset: 7, Version: "d2", Standing: "refused", Message: "bad\nregex"},
	}, Sessions: []*agentv1.ProxySession{
		{Pod: "00000000-0000-4000-8000-000000000002", Block: 1, Started: timestamppb.New(now()), AcknowledgedRevision: 3},
		{Pod: "00000000-0000-4000-8000-000000000001", Started: timestamppb.New(now().Add(-time.Hour)), AcknowledgedRevision: 4},
	}}, nil
}

func TestL7(t *testing.T) {
	socket := serve(t, &agent{})
	for file, args := range map[string]string{"l7-rulesets.txt": "l7 rulesets", "l7-rulesets.json": "l7 rulesets -o json",
		"l7-config.txt": "l7 config", "l7-config.json": "l7 config -o json"} {
		got := run(t, socket, strings.Fields(args)...)
		if got.code != ExitOK || got.stderr != "" {
			t.Errorf("%s: exit %d: %s", args, got.code, got.stderr)
		}
		golden(t, "testdata/"+file, got.stdout)
	}
}

// requests are flows that the proxy told of, with texts that would steer a terminal.
func requests() []*agentv1.Flow {
	client := &agentv1.Peer{Ip: "10.0.0.2", Port: 40001, Identity: 256, Namespace: "demo", Pod: "client"}
	backend := &agentv1.Peer{Ip: "10.0.0.4", Port: 8080, Identity: 257, Namespace: "demo", Pod: "backend-v1"}
	outside := &agentv1.Peer{Ip: "192.0.2.7", Port: 443}
	denied, none := int32(7), int32(0)
	var out []*agentv1.Flow
	for i, f := range []*agentv1.Flow{
		{Ingress: rules("allow", "ingress[0].toPorts[0].http[1]"), Age: durationpb.New(3 * time.Millisecond),
			Request: &agentv1.Request{Outcome: "allow", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/a", Status: 200, Mismatch: []string{"x-a"}}},
		{Ingress: rules("deny", ""), Request: &agentv1.Request{Outcome: "deny", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/\x1b[31m", Status: 403}},
		{Ingress: rules("deny", ""), Request: &agentv1.Request{Outcome: "deny", Protocol: "gRPC", Method: "POST", Host: "web", Path: "/a.B/C", Status: 200, GrpcStatus: &denied}},
		{Ingress: rules("deny", ""), Request: &agentv1.Request{Outcome: "audit", Protocol: "gRPC", Method: "POST", Host: "web", Path: "/a.B/C", Status: 200, GrpcStatus: &none}},
		{Egress: rules("allow", "egress[0].toPorts[0].http[0]"), Ingress: rules("allow", "ingress[0].toPorts[0].http[1]"), Request: &agentv1.Request{Outcome: "allow", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/both", Status: 200}},
		{Request: &agentv1.Request{Outcome: "open", Protocol: "HTTP/2", Method: "GET", Host: "web", Path: "/", Status: 200}},
		{Request: &agentv1.Request{Outcome: "odd", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/a%2fb", Detail: "path_normalization_failed"}},
		{Request: &agentv1.Request{Outcome: "odd", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/a/..;/b", Status: 403, Detail: "direct_response"}},
		{Ingress: rules("deny", ""), Request: &agentv1.Request{Outcome: "faulty", Protocol: "HTTP/1.1", Method: "GET", Host: "web", Path: "/c", Status: 403}},
		{Destination: outside, Egress: rules("deny", ""), Direction: agentv1.Direction_DIRECTION_EGRESS, Request: &agentv1.Request{Outcome: "deny", Protocol: "TLS", Host: "www.example.com"}},
	} {
		f.Time, f.Type, f.Source, f.Protocol = timestamppb.New(now().Add(time.Duration(i-8000)*time.Millisecond)), agentv1.FlowType_FLOW_TYPE_REQUEST, client, "tcp"
		if f.Destination == nil {
			f.Destination, f.Direction = backend, agentv1.Direction_DIRECTION_INGRESS
		}
		out = append(out, f)
	}
	return out
}

func TestObserveRequests(t *testing.T) {
	socket := serve(t, &agent{flows: requests()})
	for _, form := range []string{"compact", "table", "jsonpb"} {
		got := run(t, socket, "observe", "-o", form)
		if got.code != ExitOK || got.stderr != "" || strings.Contains(got.stdout, "\x1b") {
			t.Errorf("%s: exit %d: %s", form, got.code, got.stderr)
		}
		golden(t, "testdata/observe-requests-"+form+".txt", got.stdout)
	}
	for args, want := range map[string]int{"--type request": 10, "--not-type request": 0, "--verdict forwarded": 3, "--verdict dropped": 6, "--verdict audit": 1} {
		if got := run(t, socket, append([]string{"observe"}, strings.Fields(args)...)...); strings.Count(got.stdout, "\n") != want {
			t.Errorf("%s: want %d flows:\n%s", args, want, got.stdout)
		}
	}
}
