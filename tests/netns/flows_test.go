// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// flow waits for a stored flow that matches the filter and the condition.
func (n *node) flow(what string, filter *agentv1.FlowFilter, fits func(*agentv1.Flow) bool) *agentv1.Flow {
	n.t.Helper()
	var found *agentv1.Flow
	ok(n.t, sandbox.Eventually(n.ctx, soon, "a flow: "+what, func() error {
		ctx, cancel := context.WithTimeout(n.ctx, soon)
		defer cancel()
		stream, err := n.agent.API().ObserveFlows(ctx, &agentv1.ObserveFlowsRequest{Include: []*agentv1.FlowFilter{filter}})
		if err != nil {
			return err
		}
		seen := 0
		for {
			r, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("%d others, %w", seen, err)
			}
			if f := r.GetFlow(); f != nil && fits(f) {
				found = f
				return nil
			}
			seen++
		}
	}))
	return found
}

func refs(list []*agentv1.RuleRef) string {
	var out []string
	for _, r := range list {
		words := strings.Fields(fmt.Sprintf("%s %s/%s %s %s", r.Kind, r.Namespace, r.Name, r.Rule, r.Action))
		out = append(out, strings.Join(words, " "))
	}
	return strings.Join(out, ", ")
}

func TestFlowsNameWhatDecided(t *testing.T) {
	w := newTown(t)
	w.write("policy.yaml", ruleCase{spec: toServer + `
  ingress:
  - fromEndpoints: [{matchLabels: {role: nobody}}]
  - fromEndpoints: [{matchLabels: {role: friend}}]
    toPorts: [{ports: [{port: "8080"}]}]
`}.policy("server"))
	w.write("deny.yaml", ruleCase{kind: "WeftClusterNetworkPolicy", spec: `
  endpointSelector: {matchLabels: {role: friend}}
  enableDefaultDeny: {egress: false}
  egressDeny:
  - toCIDR: [192.0.3.0/24, "2001:db8:0:1::/64"]
`}.policy("not-far"))
	w.write("netpol.yaml", ruleCase{kind: "NetworkPolicy", spec: "  podSelector: {matchLabels: {app: server}}\n"}.policy("closed"))
	w.check(t, `
		friend -> server: tcp 8080
		friend -x server: tcp 9090
		stranger, world -x server: tcp 8080, ping
		friend -x far: tcp 8080
		host -> server: udp 9090
	`)
	onBoth(t, func(t *testing.T, family int) {
		isolating := "NetworkPolicy demo/closed deny, WeftNetworkPolicy demo/server deny"
		for _, c := range []struct {
			from, to, protocol string
			port               uint32
			reason             agentv1.DropReason
			egress, ingress    string
		}{
			{"friend", "server", "tcp", 8080, agentv1.DropReason_DROP_REASON_NONE, "", "WeftNetworkPolicy demo/server ingress[1] allow"},
			{"friend", "server", "tcp", 9090, agentv1.DropReason_DROP_REASON_POLICY_DEFAULT, "", isolating},
			{"stranger", "server", "tcp", 8080, agentv1.DropReason_DROP_REASON_POLICY_DEFAULT, "", isolating},
			{"stranger", "server", []string{"icmp", "icmpv6"}[family], 0, agentv1.DropReason_DROP_REASON_POLICY_DEFAULT, "", isolating},
			{"world", "server", "tcp", 8080, agentv1.DropReason_DROP_REASON_POLICY_DEFAULT, "", isolating},
			{"friend", "far", "tcp", 8080, agentv1.DropReason_DROP_REASON_POLICY_DENY, "WeftClusterNetworkPolicy /not-far egressDeny[0] deny", ""},
			{"host", "server", "udp", 9090, agentv1.DropReason_DROP_REASON_NONE, "", "Weft /allow-from-host ingress[0] allow"},
		} {
			from, to := w.places[c.from].addrs[family].String(), w.places[c.to].addrs[family].String()
			what := fmt.Sprintf("%s to %s %s %d", c.from, c.to, c.protocol, c.port)
			f := w.flow(what, &agentv1.FlowFilter{Ip: []string{to}, Protocol: []string{c.protocol}}, func(f *agentv1.Flow) bool {
				return f.GetDestination().GetIp() == to && (f.GetSource().GetIp() == from || c.from == "host" && f.GetSource().GetEntity() == "host") &&
					(c.port == 0 || f.GetDestination().GetPort() == c.port) &&
					(f.GetType() == agentv1.FlowType_FLOW_TYPE_NEW || f.GetType() == agentv1.FlowType_FLOW_TYPE_DROP)
			})
			if f.GetDropReason() != c.reason || refs(f.GetEgress()) != c.egress || refs(f.GetIngress()) != c.ingress {
				t.Errorf("%s: %v, egress %q, ingress %q; want %v, %q, %q", what,
					f.GetDropReason(), refs(f.GetEgress()), refs(f.GetIngress()), c.reason, c.egress, c.ingress)
			}
			checkPeer(t, f.GetSource(), w.places[c.from])
			checkPeer(t, f.GetDestination(), w.places[c.to])
		}
	})
}

// checkPeer fails unless a flow tells who the place is.
func checkPeer(t *testing.T, p *agentv1.Peer, at *place) {
	t.Helper()
	switch at.name {
	case "host", "world":
		if !strings.HasPrefix(p.GetEntity(), at.name) {
			t.Errorf("%s is shown as %v", at.name, p)
		}
	case "far":
		if !strings.Contains(strings.Join(p.GetLabels(), " "), "cidr:") {
			t.Errorf("far, whose prefix a policy names, is shown as %v", p)
		}
	default:
		if p.GetPod() != at.name || p.GetNamespace() == "" || p.GetIdentity() < 256 || len(p.GetLabels()) == 0 || p.GetEndpoint() == 0 {
			t.Errorf("pod %s is shown as %v", at.name, p)
		}
	}
}

func TestWhatTheCommandShows(t *testing.T) {
	w := newTown(t)
	w.write("policy.yaml", onlyRole("friend"))
	w.check(t, "friend -> server: tcp 8080\nstranger -x server: tcp 8080")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"status", []string{"node-1", "10.244.0.0/24", "manifests", "kernel"}},
		{"endpoint list", []string{"demo/friend", "demo/server", "other/guest", w.places["server"].addrs[0].String(), w.places["server"].addrs[1].String(), "ready"}},
		{"identity list", []string{"reserved:host", "k8s:app=server", "k8s:io.cilium.k8s.policy.serviceaccount=trusted"}},
		{"policy list", []string{"WeftNetworkPolicy", "demo", "role", "policy.yaml"}},
		{"policy list --entries", []string{"ingress", "allow", "WeftNetworkPolicy demo/role ingress[0]", "Weft allow-from-host ingress[0]"}},
	} {
		out, err := w.weft(strings.Fields(c.args)...)
		if err != nil {
			t.Errorf("weft %s: %v\n%s", c.args, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("weft %s does not show %q:\n%s", c.args, want, out)
			}
		}
	}
	ok(t, sandbox.Eventually(t.Context(), soon, "the drop in weft observe", func() error {
		out, err := w.weft("observe", "--verdict", "dropped", "--from-pod", "demo/stranger", "--to-pod", "demo/server", "--protocol", "tcp")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(out, "demo/stranger") || !strings.Contains(out, "demo/role") {
			return fmt.Errorf("shown is %q", out)
		}
		return nil
	}))
	out, err := w.weft("observe", "--to-pod", "demo/server", "--port", "8080", "-o", "json", "--last", "0")
	ok(t, err)
	for line := range strings.Lines(out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %q", line)
		}
	}
	if !strings.Contains(out, "ingress[0]") {
		t.Errorf("the rule that let a flow pass is not in\n%s", out)
	}
}
