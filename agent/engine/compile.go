// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
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

// compiler keeps what the next compilation can use, which changes no answer.
type compiler struct {
	policies   *policy.Compiler
	identities *identityIndex
	effective  map[wholeSet]model.PolicySet // of the last compilation
}

func newCompiler() *compiler {
	return &compiler{policies: policy.NewCompiler(), identities: newIdentityIndex()}
}

// compile is pure but for what the compiler keeps.
func (c *compiler) compile(node Node, s state.Snapshot, st step) (Result, error) {
	identityOf := c.identities.finder(node, s)
	bound, waiting := bind(identityOf, st.running, s)
	others := remotes(node, s, st.identities, st.applied)
	in := policy.Inputs{
		Policies:   append(implicitPolicies(), st.policies...),
		Identities: st.identities,
		Ports:      portsByIdentity(identityOf, s.Pods, others),
		Prefixes:   st.universe,
	}
	for _, e := range bound {
		in.Subjects = append(in.Subjects, policy.Subject{
			Identity: e.identity.ID, Labels: e.identity.Labels, Ports: e.pod.Ports,
		})
	}
	out, err := c.policies.Update(in)
	if err != nil {
		return Result{}, fmt.Errorf("compiling policies: %w", err)
	}
	r := Result{Desired: state.Desired{Revision: s.Revision}, waiting: waiting}
	sets := make(map[model.SetHash]model.PolicySet)
	effective := make(map[wholeSet]model.PolicySet)
	for i, e := range bound {
		result := &out.Results[i]
		result.Set = c.effectiveSet(*result, effective)
		if len(result.Set.Entries) > 0 {
			sets[result.Set.Hash] = result.Set
		}
		r.Desired.Endpoints = append(r.Desired.Endpoints, endpointRow(e, *result))
	}
	c.effective = effective
	for _, set := range sets {
		r.Desired.Sets = append(r.Desired.Sets, set)
	}
	slices.SortFunc(r.Desired.Sets, func(a, b model.PolicySet) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	slices.SortFunc(r.Desired.Endpoints, func(a, b model.EndpointRow) int { return cmp.Compare(a.Slot, b.Slot) })
	r.Desired.IPs = addressRows(node, s, st.overlay, bound, others, st.reachable)
	if st.overlay != nil {
		r.Desired.Nodes = st.overlay.rows
	}
	r.View = makeView(node, s, st, bound, others, out)
	return r, nil
}

// wholeSet is a set as it was compiled, and where its endpoints are isolated.
type wholeSet struct {
	hash    model.SetHash
	isolate [2]bool
}

// effectiveSet leaves out of a result what cannot matter. What it finds is noted in
// now.
func (c *compiler) effectiveSet(r policy.Result, now map[wholeSet]model.PolicySet) model.PolicySet {
	whole := wholeSet{r.Set.Hash, r.Isolate}
	set, ok := now[whole]
	if !ok {
		set, ok = c.effective[whole]
	}
	if !ok {
		set = r.Set
		if entries := withoutIdle(set.Entries, r.Isolate); len(entries) < len(set.Entries) {
			set = model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
		}
	}
	now[whole] = set
	return set
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
