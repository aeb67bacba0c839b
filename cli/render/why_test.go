// SPDX-License-Identifier: Apache-2.0

package render

import (
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// What a policy lets pass and the proxy does not is not the policy's doing.
func TestWhyAFlowWasRefused(t *testing.T) {
	const (
		notReady = 26 // of model.ReasonTexts
		needs    = 27
	)
	refs := []*agentv1.RuleRef{{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "web", Rule: "ingress[0]"}}
	for _, c := range []struct {
		reason model.Reason
		refs   []*agentv1.RuleRef
		want   string
	}{
		{model.ReasonPolicyDeny, refs, "denied by WeftNetworkPolicy demo/web ingress[0]"},
		{model.ReasonPolicyDefault, refs, "denied by default: WeftNetworkPolicy demo/web ingress[0] isolates ingress"},
		{notReady, refs, "the proxy does not listen for the ruleset; who called was told so (WeftNetworkPolicy demo/web ingress[0])"},
		{needs, refs, "the connection was open before a rule needed the proxy for it; who sent was told so (WeftNetworkPolicy demo/web ingress[0])"},
		{needs, nil, "the connection was open before a rule needed the proxy for it; who sent was told so"},
	} {
		f := &agentv1.Flow{Type: agentv1.FlowType_FLOW_TYPE_DROP, DropReason: agentv1.DropReason(c.reason),
			Direction: agentv1.Direction_DIRECTION_INGRESS, Ingress: c.refs}
		if got := Why(f); got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
	}
}
