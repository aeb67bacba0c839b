// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// toldOf is why a flow is as it is, and of one that the proxy has, which leg it is.
func toldOf(f *agentv1.Flow) string {
	if f.GetRuleset() == 0 {
		return Why(f)
	}
	return leg(f) + ", " + Why(f)
}

func leg(f *agentv1.Flow) string {
	where := map[agentv1.FlowLeg]string{
		agentv1.FlowLeg_FLOW_LEG_DOWNSTREAM: "to the proxy",
		agentv1.FlowLeg_FLOW_LEG_UPSTREAM:   "from the proxy",
		agentv1.FlowLeg_FLOW_LEG_BETWEEN:    "to the proxy again",
	}[f.GetLeg()]
	if where == "" {
		where = "by the proxy"
	}
	return fmt.Sprintf("%s (ruleset %d)", where, f.GetRuleset())
}
