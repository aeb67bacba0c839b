// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/cli/cluster"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// At a terminal the problems of nodes come below the table if they do not fit it.
func TestProblemsOfNodesFitTheTerminal(t *testing.T) {
	part := func(name, message string) *agentv1.ComponentStatus {
		return &agentv1.ComponentStatus{Name: name, Health: agentv1.Health_HEALTH_DEGRADED, Message: message}
	}
	s := &cluster.State{Cluster: "c", Namespace: "n", Nodes: []cluster.Node{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}}}
	answers := []OfNode{
		{Node: "n1", Message: &agentv1.GetStatusResponse{Version: "1", Components: []*agentv1.ComponentStatus{
			part("routes", "pods of node n2 cannot be reached: it is behind a router that leads nowhere"), part("cni", "is away")}}},
		{Node: "n2", Message: &agentv1.GetStatusResponse{Version: "1"}},
	}
	show := func(width int) string {
		var b strings.Builder
		if err := ClusterStatus(&b, s, answers, time.Now(), width); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for _, width := range []int{0, 250} {
		if got := show(width); !strings.Contains(got, "leads nowhere; cni: is away\n") || !strings.Contains(got, "LOST   PROBLEM\n") {
			t.Errorf("%d columns:\n%s", width, got)
		}
	}
	got := show(100)
	const below = "\nn1: routes: pods of node n2 cannot be reached: it is behind a router that leads nowhere\nn1: cni: is away\n"
	if !strings.Contains(got, below) || strings.Contains(got, "PROBLEM") {
		t.Errorf("100 columns:\n%s", got)
	}
	for _, line := range strings.Split(got, "\n") {
		if len(line) > 100 {
			t.Errorf("%q is wider than 100", line)
		}
	}
}
