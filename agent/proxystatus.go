// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/agent/api"
	"github.com/weftmesh/weft/envoy/accesslog"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
)

// l7 is what others read of the proxy.
func (p *proxy) l7() l7 {
	return l7{
		proxy: p, proxied: p,
		ready: func() (map[model.RulesetID]bool, error) {
			list, err := p.dp.ReadyRulesets()
			ready := make(map[model.RulesetID]bool, len(list))
			for _, id := range list {
				ready[id] = true
			}
			return ready, err
		},
		faults: func() (out []api.ProxyFault) {
			for _, f := range p.server.FaultList() {
				text := f.Text
				if f.Rule != "" {
					text = f.Rule + " allows nothing: " + text
				}
				out = append(out, api.ProxyFault{Ruleset: f.Ruleset, Policy: f.Policy, Rule: f.Rule, Text: text})
			}
			return out
		},
		config: p.config,
	}
}

func (p *proxy) config() *agentv1.ListProxyConfigResponse {
	out := &agentv1.ListProxyConfigResponse{
		Proxies:              uint32(p.server.Connected()),
		WantedRevision:       uint64(p.server.Wanted()),
		AcknowledgedRevision: uint64(p.server.Acknowledged()),
	}
	for _, s := range p.server.Sessions() {
		one := &agentv1.ProxySession{Pod: s.Pod, Block: uint32(s.Block), AcknowledgedRevision: uint64(s.Acknowledged)}
		if s.Started != 0 {
			one.Started = timestamppb.New(time.Unix(0, s.Started))
		}
		out.Sessions = append(out.Sessions, one)
	}
	for _, r := range p.server.Status() {
		out.Objects = append(out.Objects, &agentv1.ProxyObject{
			Type: r.Type, Name: r.Name, Ruleset: uint32(r.Ruleset), Version: r.Version, Standing: string(r.Standing), Message: r.Text,
		})
	}
	return out
}

// status is the line of Envoy's processes in weft status; what Envoy has of rulesets is
// in the proxy's.
func (p *proxy) status() *agentv1.ComponentStatus {
	text, err := p.envoys.State(p.server.Sessions())
	if err != nil {
		return &agentv1.ComponentStatus{Name: "envoy", Health: agentv1.Health_HEALTH_DEGRADED, Message: err.Error()}
	}
	return &agentv1.ComponentStatus{Name: "envoy", Health: agentv1.Health_HEALTH_OK, Message: text}
}

// requestEvent is an event of Envoy's in the words of flows.
func requestEvent(e accesslog.Event) flow.RequestEvent {
	host := e.Host
	if e.ServerName != "" {
		host = e.ServerName
	}
	out := flow.RequestEvent{
		Request: model.Request{
			Ruleset: e.Ruleset, Protocol: e.Protocol, Method: e.Method, Path: e.Path, Host: host,
			Status: e.Status, GRPCStatus: int32(e.GRPCStatus), Detail: e.Detail,
		},
		Time: e.Time, Took: e.Duration, Source: e.Source, Destination: e.Destination,
		Sent: e.BytesReceived, Received: e.BytesSent,
	}
	for _, v := range e.Verdicts() {
		out.By = append(out.By, flow.Decision{Outcome: model.Outcome(v.Outcome), Policy: v.Policy, Rule: v.Rule})
		out.Mismatch = append(out.Mismatch, v.Mismatch...)
	}
	return out
}
