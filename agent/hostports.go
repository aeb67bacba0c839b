// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// followHostPorts lets packets from outside be looked at while pods have ports of the
// node's.
func (a *agent) followHostPorts(ctx context.Context) error {
	follow(ctx, a.tables, retryEvery, func(s state.Snapshot) {
		a.uplinks.SetHostPorts(slices.ContainsFunc(s.Pods, func(p model.Pod) bool { return len(p.HostPorts) > 0 }))
	})
	return nil
}

// hostPortStatus is the line of host ports in weft status.
func (a *agent) hostPortStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "host ports", Health: agentv1.Health_HEALTH_OK, Message: "no pod has one"}
	served, faults := 0, []string{}
	for _, p := range a.engine.View().HostPorts {
		if p.Served() {
			served++
		}
		if p.Reason != "" {
			faults = append(faults, fmt.Sprintf("port %d of pod %s: %s", p.Port, p.Pod, p.Reason))
		}
	}
	if served > 0 {
		out.Message = countOf(served, "port") + " of this node lead to pods"
		if served == 1 {
			out.Message = "a port of this node leads to a pod"
		}
	}
	if len(faults) > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = fmt.Sprintf("%s; %s: %s", out.Message, countOf(len(faults), "fault"), faults[0])
	}
	return out
}
