// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// collectFlowsEvery is how often flows that ended are taken out of conntrack
// and the tails of drop floods are reported.
const collectFlowsEvery = 2 * time.Second

// collectGarbage keeps conntrack clean until ctx ends. Without it the kernel
// goes on: tables are bounded there.
func (a *agent) collectGarbage(ctx context.Context) error {
	tick := time.NewTicker(collectFlowsEvery)
	defer tick.Stop()
	for {
		if _, err := a.dp.CollectGarbage(); err != nil {
			a.log.Error("conntrack cannot be collected", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *agent) flowCounters() (*agentv1.FlowCounters, error) {
	c, t := a.flows.Counters(), a.dp.Tracked()
	return &agentv1.FlowCounters{Seen: c.Total(), Lost: c.Lost, Stored: c.Stored,
		Tracked: t.Answered + t.Unanswered}, nil
}

func (a *agent) dropCounters() ([]*agentv1.DropCounter, error) {
	counters, err := a.dp.Counters()
	if err != nil {
		return nil, err
	}
	var out []*agentv1.DropCounter
	for _, c := range counters {
		if c.Reason == 0 || c.Packets == 0 {
			continue
		}
		out = append(out, &agentv1.DropCounter{Reason: model.Reason(c.Reason).String(),
			Direction: c.Direction.String(), Packets: c.Packets, Bytes: c.Bytes})
	}
	return out, nil
}
