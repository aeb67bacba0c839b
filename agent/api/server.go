// SPDX-License-Identifier: Apache-2.0

// Package api serves the agent's gRPC API (pkg/api/agent/v1): what the agent
// knows, how far the kernel is, and the flows.
package api

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
)

// Revisions tells which revision of intent is newest.
type Revisions interface {
	Revision() model.Revision
}

// FlowServer streams flows.
type FlowServer interface {
	ObserveFlows(*agentv1.ObserveFlowsRequest, agentv1.AgentService_ObserveFlowsServer) error
}

// Config is what a Server answers from.
type Config struct {
	Version   string
	Node      string
	Source    string
	PodCIDRs  []string
	Started   time.Time
	Revisions Revisions
	Realized  *engine.Realized
	View      func() *engine.View
	Flows     FlowServer
	// FlowCounters and Drops read the kernel's counters.
	FlowCounters func() (*agentv1.FlowCounters, error)
	Drops        func() ([]*agentv1.DropCounter, error)
	Hits         func() (map[model.Hit]uint64, error)
	// PolicyFaults are what is wrong with policies, and what follows.
	PolicyFaults func() map[model.PolicyKey]PolicyFault
	// L7 is about what is asked above ports.
	L7 L7
	// Components are the health reports of the agent's parts, in order.
	Components []func() *agentv1.ComponentStatus
}

// PolicyFault is one.
type PolicyFault struct {
	Source  string // file or API object
	Message string
}

// Server implements agentv1.AgentServiceServer.
type Server struct {
	agentv1.UnimplementedAgentServiceServer
	cfg Config
}

// New makes a server.
func New(cfg Config) *Server { return &Server{cfg: cfg} }

// ObserveFlows streams flows.
func (s *Server) ObserveFlows(req *agentv1.ObserveFlowsRequest, stream agentv1.AgentService_ObserveFlowsServer) error {
	return s.cfg.Flows.ObserveFlows(req, stream)
}

// GetStatus reports health and revisions; with wait_realized it first waits
// until the intent known now is in the kernel and acknowledged by the proxy.
func (s *Server) GetStatus(ctx context.Context, req *agentv1.GetStatusRequest) (*agentv1.GetStatusResponse, error) {
	if req.WaitRealized {
		// Revision 0 is before the source was first read: nothing is realized then.
		if err := s.cfg.Realized.WaitRevision(ctx, max(s.cfg.Revisions.Revision(), 1)); err != nil {
			return nil, status.Error(codes.DeadlineExceeded, err.Error())
		}
		if err := s.waitProxy(ctx); err != nil {
			return nil, err
		}
	}
	_, realized := s.cfg.Realized.Revisions()
	view := s.cfg.View()
	out := &agentv1.GetStatusResponse{
		Version: s.cfg.Version, Node: s.cfg.Node, Source: s.cfg.Source,
		Started: timestamppb.New(s.cfg.Started), PodCidrs: s.cfg.PodCIDRs,
		DesiredRevision: uint64(s.cfg.Revisions.Revision()), RealizedRevision: uint64(realized),
		Endpoints: uint32(len(view.Endpoints)), Identities: uint32(len(view.Identities())),
		Policies: uint32(len(view.Policies)), Services: uint32(view.Services.Len()),
		Rulesets: uint32(view.Rulesets.Len()),
	}
	var err error
	if out.Flows, err = s.cfg.FlowCounters(); err != nil {
		return nil, fmt.Errorf("reading flow counters: %w", err)
	}
	if out.Drops, err = s.cfg.Drops(); err != nil {
		return nil, fmt.Errorf("reading drop counters: %w", err)
	}
	out.Components = append(out.Components, s.reconcilerStatus(), s.proxyStatus())
	for _, c := range s.cfg.Components {
		out.Components = append(out.Components, c())
	}
	out.Health = agentv1.Health_HEALTH_OK
	for _, c := range out.Components {
		out.Health = max(out.Health, c.Health)
	}
	return out, nil
}

func (s *Server) reconcilerStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "kernel", Health: agentv1.Health_HEALTH_OK,
		Message: "maps and programs are as they should be"}
	n, first := 0, ""
	for kind, errs := range s.cfg.Realized.Failing() {
		for _, err := range errs {
			n++
			if text := kind + " " + err.Error(); first == "" || text < first {
				first = text
			}
		}
	}
	if n > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = fmt.Sprintf("%d rows are not in the kernel and are tried again, the first: %s", n, first)
	}
	return out
}
