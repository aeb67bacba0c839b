// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/model"
)

// ListServices lists the services, or the one that is named.
func (s *Server) ListServices(_ context.Context, req *agentv1.ListServicesRequest) (*agentv1.ListServicesResponse, error) {
	hits, err := s.cfg.Hits()
	if err != nil {
		return nil, fmt.Errorf("reading how often backends were chosen: %w", err)
	}
	out := &agentv1.ListServicesResponse{}
	for v := range s.cfg.View().Services.All() {
		if req.Name == "" || v.ServiceKey == (model.ServiceKey{Namespace: req.Namespace, Name: req.Name}) {
			out.Services = append(out.Services, service(v, hits))
		}
	}
	if req.Name != "" && len(out.Services) == 0 {
		return nil, status.Errorf(codes.NotFound, "no service %s/%s is known here", req.Namespace, req.Name)
	}
	return out, nil
}

func service(v *lb.Service, hits map[model.Hit]uint64) *agentv1.Service {
	out := &agentv1.Service{Namespace: v.Namespace, Name: v.Name, Type: string(v.Type), Source: v.Source, Message: v.Reason}
	if v.Affinity > 0 {
		out.Affinity = durationpb.New(v.Affinity)
	}
	for _, f := range v.Frontends {
		front := &agentv1.Frontend{
			Address: netip.AddrPortFrom(f.Addr, f.Port).String(), Protocol: flow.ProtocolName(f.Protocol),
			PortName: f.PortName, Number: f.Number, Algorithm: string(f.Algorithm), Message: f.Reason,
		}
		for _, b := range f.Backends {
			back := &agentv1.ServiceBackend{Number: b.ID, Address: b.Addr.String(), State: string(b.State), Node: b.Node,
				Hits: hits[model.Hit{Service: f.Number, Backend: b.ID}]}
			if b.Pod.Name != "" {
				back.Pod = b.Pod.String()
			}
			front.Backends = append(front.Backends, back)
		}
		out.Frontends = append(out.Frontends, front)
	}
	for _, u := range v.Unserved() {
		out.Frontends = append(out.Frontends, &agentv1.Frontend{Address: u.Address, PortName: u.PortName,
			Protocol: flow.ProtocolName(u.Protocol), Message: u.Reason})
	}
	return out
}
