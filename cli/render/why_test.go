// SPDX-License-Identifier: Apache-2.0

package render

import (
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// What a policy lets pass and the proxy does not is not the policy's doing.
func TestWhyAFlowWasRefused(t *testing.T) {
	const (
		deny     = agentv1.DropReason_DROP_REASON_POLICY_DENY
		isolated = agentv1.DropReason_DROP_REASON_POLICY_DEFAULT
		notReady = agentv1.DropReason_DROP_REASON_PROXY_NOT_READY
		needs    = agentv1.DropReason_DROP_REASON_NEEDS_PROXY
	)
	refs := []*agentv1.RuleRef{{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "web", Rule: "ingress[0]"}}
	for _, c := range []struct {
		reason agentv1.DropReason
		refs   []*agentv1.RuleRef
		want   string
	}{
		{deny, refs, "denied by WeftNetworkPolicy demo/web ingress[0]"},
		{isolated, refs, "denied by default: WeftNetworkPolicy demo/web ingress[0] isolates ingress"},
		{notReady, refs, "the proxy does not listen for the ruleset; who called was told so (WeftNetworkPolicy demo/web ingress[0])"},
		{needs, refs, "the connection was open before a rule needed the proxy for it; who sent was told so (WeftNetworkPolicy demo/web ingress[0])"},
		{needs, nil, "the connection was open before a rule needed the proxy for it; who sent was told so"},
	} {
		f := &agentv1.Flow{Type: agentv1.FlowType_FLOW_TYPE_DROP, DropReason: c.reason,
			Direction: agentv1.Direction_DIRECTION_INGRESS, Ingress: c.refs}
		if got := Why(f); got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
	}
}
