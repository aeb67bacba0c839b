// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/state"
)

// Result is one compilation: what the kernel is to hold, and how to explain it.
type Result struct {
	Desired state.Desired
	View    View
	waiting map[uint32]wait // endpoints that cannot be compiled yet
}

// compile is pure but for the compiler's cache, which changes no answer.
func compile(compiler *policy.Compiler, node Node, s state.Snapshot, st step) (Result, error) {
	identityOf := identitiesOf(node, s)
	bound, waiting := bind(identityOf, st.running, s)
	others := remotes(node.Name, s, st.identities, st.applied)
	in := policy.Inputs{
		Policies:   append(implicitPolicies(), st.policies...),
		Identities: slices.SortedFunc(maps.Values(st.identities), func(a, b model.Identity) int { return cmp.Compare(a.ID, b.ID) }),
		Ports:      portsByIdentity(identityOf, s.Pods, others),
		Prefixes:   st.universe,
	}
	for _, e := range bound {
		in.Subjects = append(in.Subjects, policy.Subject{
			Identity: e.identity.ID, Labels: e.identity.Labels, Ports: e.pod.Ports,
		})
	}
	out, err := compiler.Update(in)
	if err != nil {
		return Result{}, fmt.Errorf("compiling policies: %w", err)
	}
	r := Result{Desired: state.Desired{Revision: s.Revision}, waiting: waiting}
	sets := make(map[model.SetHash]model.PolicySet)
	for i, e := range bound {
		result := &out.Results[i]
		result.Set = effectiveSet(*result)
		if len(result.Set.Entries) > 0 {
			sets[result.Set.Hash] = result.Set
		}
		r.Desired.Endpoints = append(r.Desired.Endpoints, endpointRow(e, *result))
	}
	for _, set := range sets {
		r.Desired.Sets = append(r.Desired.Sets, set)
	}
	slices.SortFunc(r.Desired.Sets, func(a, b model.PolicySet) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	slices.SortFunc(r.Desired.Endpoints, func(a, b model.EndpointRow) int { return cmp.Compare(a.Slot, b.Slot) })
	r.Desired.IPs = addressRows(node, s, bound, others, st.reachable)
	r.View = makeView(node, s, st, bound, others, out)
	return r, nil
}

// effectiveSet leaves out of a result what cannot matter.
func effectiveSet(r policy.Result) model.PolicySet {
	entries := withoutIdle(r.Set.Entries, r.Isolate)
	if len(entries) == len(r.Set.Entries) {
		return r.Set
	}
	return model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
}

func endpointRow(e boundEndpoint, r policy.Result) model.EndpointRow {
	return model.EndpointRow{
		Slot: e.Slot, ID: e.ID, IfIndex: e.HostIfIndex, IfName: e.HostIfName,
		Identity: e.identity.ID, Set: r.Set.Hash,
		EnforceEgress: r.Isolate[model.Egress], EnforceIngress: r.Isolate[model.Ingress],
		MTU: e.MTU, MAC: e.MAC, HostMAC: e.HostMAC, IPv4: e.IPv4, IPv6: e.IPv6,
	}
}

// portsByIdentity gathers the named ports of all pods, also of other nodes, by their
// identity, each once and sorted.
func portsByIdentity(identityOf identityFinder, pods []model.Pod, others []remote) map[model.IdentityID][]model.NamedPort {
	out := make(map[model.IdentityID][]model.NamedPort)
	for _, r := range others {
		if len(r.Ports) > 0 {
			out[r.identity] = append(out[r.identity], r.Ports...)
		}
	}
	for _, p := range pods {
		if len(p.Ports) == 0 || p.HostNetwork {
			continue
		}
		if id, ok := identityOf(p); ok {
			out[id.ID] = append(out[id.ID], p.Ports...)
		}
	}
	for id, ports := range out {
		slices.SortFunc(ports, func(a, b model.NamedPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
		})
		out[id] = slices.Compact(ports)
	}
	return out
}
