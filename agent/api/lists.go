// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/agent/engine"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
)

// ListEndpoints lists the local endpoints.
func (s *Server) ListEndpoints(context.Context, *agentv1.ListEndpointsRequest) (*agentv1.ListEndpointsResponse, error) {
	out := &agentv1.ListEndpointsResponse{}
	for _, e := range s.cfg.View().Endpoints {
		out.Endpoints = append(out.Endpoints, s.endpoint(e))
	}
	return out, nil
}

func (s *Server) endpoint(e engine.EndpointView) *agentv1.Endpoint {
	out := &agentv1.Endpoint{
		Id: e.ID, Namespace: e.Pod.Namespace, Pod: e.Pod.Name, ContainerId: e.ContainerID,
		Identity: uint32(e.Identity.ID), Labels: e.Identity.Labels.Strings(),
		Ipv4: text(e.IPv4), Ipv6: text(e.IPv6), Device: e.HostIfName, Ifindex: e.HostIfIndex,
		State: string(e.State), IsolatedIngress: e.Isolated[model.Ingress],
		IsolatedEgress: e.Isolated[model.Egress], PolicyEntries: uint32(len(e.Entries)),
	}
	if st, ok := s.cfg.Realized.Endpoint(e.ID); ok {
		out.PolicyRevision = uint64(st.Revision)
		switch {
		case st.Err != nil:
			out.State, out.Message = "failed", st.Err.Error()
		case st.Waiting != "":
			out.State, out.Message = string(model.EndpointPrepared), "waiting for "+st.Waiting
		}
	}
	return out
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// ListIdentities lists every identity known here.
func (s *Server) ListIdentities(context.Context, *agentv1.ListIdentitiesRequest) (*agentv1.ListIdentitiesResponse, error) {
	out := &agentv1.ListIdentitiesResponse{}
	for _, i := range s.cfg.View().Identities() {
		out.Identities = append(out.Identities, &agentv1.Identity{
			Id: uint32(i.ID), Labels: i.Labels.Strings(), Endpoints: uint32(i.Endpoints), Kind: i.Kind,
		})
	}
	return out, nil
}

// ListPolicies lists the policies, also those that were never right, and, if asked, what became of them for every
// endpoint.
func (s *Server) ListPolicies(_ context.Context, req *agentv1.ListPoliciesRequest) (*agentv1.ListPoliciesResponse, error) {
	view := s.cfg.View()
	out := &agentv1.ListPoliciesResponse{}
	faults, refused := s.cfg.PolicyFaults(), s.proxyMessages(view)
	for _, p := range view.Policies {
		one := &agentv1.Policy{
			Kind: p.Key.Kind, Namespace: p.Key.Namespace, Name: p.Key.Name, Source: p.Source,
			Rules: uint32(len(p.Rules)), Endpoints: p.Endpoints, Revision: uint64(view.Revision),
			Message: p.Message,
		}
		if one.Message == "" {
			one.Message = refused[p.Key]
		}
		if f, bad := faults[p.Key]; bad {
			one.Message = f.Message
			delete(faults, p.Key)
		}
		out.Policies = append(out.Policies, one)
	}
	for _, key := range slices.SortedFunc(maps.Keys(faults), func(a, b model.PolicyKey) int { return strings.Compare(a.String(), b.String()) }) {
		f := faults[key]
		out.Policies = append(out.Policies, &agentv1.Policy{
			Kind: key.Kind, Namespace: key.Namespace, Name: key.Name, Source: f.Source, Message: f.Message,
		})
	}
	if !req.Entries {
		return out, nil
	}
	for _, e := range view.Endpoints {
		ep := &agentv1.EndpointPolicy{Endpoint: e.ID}
		for _, entry := range e.Entries {
			ep.Entries = append(ep.Entries, policyEntry(entry, view))
		}
		out.Endpoints = append(out.Endpoints, ep)
	}
	return out, nil
}

func policyEntry(e model.PolicyEntry, view *engine.View) *agentv1.PolicyEntry {
	out := &agentv1.PolicyEntry{
		Direction: e.Direction.String(), Peer: uint32(e.Peer), Protocol: flow.ProtocolName(e.Protocol),
		Port: portText(e), Action: e.Action.String(), Ruleset: uint32(e.Ruleset),
	}
	if ref, ok := view.Names.Rule(e.Rule); ok {
		out.Rule = ref.Policy.String() + " " + ref.Rule
	}
	return out
}

// portText writes the ports that an entry covers: "80", "1024-2047", "*", or
// for ICMP "type 8".
func portText(e model.PolicyEntry) string {
	if e.Protocol == model.ProtoICMP || e.Protocol == model.ProtoICMPv6 {
		switch e.PortBits {
		case 0:
			return "*"
		case 16:
			return fmt.Sprintf("type %d code %d", e.Port>>8, e.Port&0xff)
		}
		return fmt.Sprintf("type %d", e.Port>>8)
	}
	last := int(e.Port) + 1<<(16-e.PortBits) - 1
	switch {
	case e.PortBits == 0:
		return "*"
	case last == int(e.Port):
		return strconv.Itoa(int(e.Port))
	}
	return fmt.Sprintf("%d-%d", e.Port, last)
}
