// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/state"
)

// makeView tells a compilation, its sets as the kernel gets them, in the terms of
// those who ask.
func makeView(node Node, s state.Snapshot, st step, bound []boundEndpoint, others []remote, out policy.Output) View {
	v := View{Revision: s.Revision, Names: &flow.Maps{
		Workloads:  make(map[netip.Addr]flow.Workload, 2*(len(others)+len(bound))),
		Endpoints:  make(map[uint16]flow.Endpoint),
		Identities: make(map[model.IdentityID]model.Labels),
		Cluster:    st.identities,
		Rules:      out.Rules.All(),
	}, cluster: st.identities, prefixes: st.universe, using: make(map[model.IdentityID]int)}
	selected := make(map[model.PolicyKey][]uint32)
	for i, e := range bound {
		r := out.Results[i]
		v.using[e.identity.ID]++
		v.Endpoints = append(v.Endpoints, EndpointView{
			Endpoint: e.Endpoint, Identity: e.identity, Isolated: r.Isolate, Entries: r.Set.Entries,
			Ports: e.pod.Ports, Owner: e.pod.Workload,
		})
		for _, key := range r.Policies {
			selected[key] = append(selected[key], e.ID)
		}
		w := flow.Workload{Pod: e.Pod, Identity: e.identity.ID, Slot: e.Slot, Endpoint: e.ID, Owner: e.pod.Workload}
		v.Names.Endpoints[e.Slot] = flow.Endpoint{Workload: w, Isolated: r.Isolated}
		for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
			if a.IsValid() {
				v.Names.Workloads[a] = w
			}
		}
	}
	for _, r := range others {
		for _, a := range r.addrs {
			if _, local := v.Names.Workloads[a]; !local {
				v.Names.Workloads[a] = flow.Workload{Pod: r.Pod, Identity: r.identity, Owner: r.Workload}
			}
		}
	}
	v.Unmanaged = unmanaged(s)
	for _, u := range v.Unmanaged {
		for _, a := range []netip.Addr{u.IPv4, u.IPv6} {
			if _, taken := v.Names.Workloads[a]; a.IsValid() && !taken {
				v.Names.Workloads[a] = flow.Workload{Pod: u.Pod, Identity: u.Identity, Owner: u.Workload}
			}
		}
	}
	v.Endpoints = withUnbound(v.Endpoints, s.Endpoints)
	v.Policies = policyViews(node.Filter, st.policies, selected)
	for _, id := range v.withoutCluster() {
		v.Names.Identities[id.ID] = id.Labels
	}
	return v
}

// withUnbound adds the endpoints that were not compiled, so that who looks sees
// them and what they wait for.
func withUnbound(bound []EndpointView, all []model.Endpoint) []EndpointView {
	seen := make(map[uint32]bool, len(bound))
	for _, e := range bound {
		seen[e.ID] = true
	}
	for _, e := range all {
		if !seen[e.ID] {
			bound = append(bound, EndpointView{Endpoint: e})
		}
	}
	slices.SortFunc(bound, func(a, b EndpointView) int { return cmp.Compare(a.ID, b.ID) })
	return bound
}

// policyViews lists policies by key; the specs of one object are one policy.
func policyViews(filter identity.Filter, policies []model.Policy, selected map[model.PolicyKey][]uint32) []PolicyView {
	var out []PolicyView
	for _, p := range policies {
		if n := len(out); n > 0 && out[n-1].Key == p.Key {
			out[n-1].Rules = append(slices.Clone(out[n-1].Rules), p.Rules...)
			out[n-1].absent = append(out[n-1].absent, absentKeys(filter, p)...)
			continue
		}
		eps := slices.Clone(selected[p.Key])
		slices.Sort(eps)
		out = append(out, PolicyView{Policy: p, Endpoints: slices.Compact(eps), absent: absentKeys(filter, p)})
	}
	for i := range out {
		out[i].Message = absentMessage(out[i].absent)
	}
	return out
}

// absentKeys are the labels that a policy's selectors ask about and that no
// identity has, as identityLabels leaves them out.
func absentKeys(filter identity.Filter, p model.Policy) []string {
	var out []string
	look := func(s model.Selector) {
		for _, r := range s.Requirements {
			if r.Source != model.SourceReserved && !filter.Carries(r.Key) {
				out = append(out, r.Key)
			}
		}
	}
	look(p.Subject)
	for _, r := range p.Rules {
		for _, peer := range r.Peers {
			if peer.Selector != nil {
				look(*peer.Selector)
			}
		}
	}
	return out
}

func absentMessage(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return fmt.Sprintf("identityLabels leaves out %s: to its selectors no pod has that label; "+
		"select by another one, or change identityLabels", strings.Join(slices.Compact(keys), ", "))
}

// Identities lists every identity that is known on this node, by number.
func (v *View) Identities() []IdentityView {
	out := v.withoutCluster()
	for _, id := range v.cluster {
		out = append(out, IdentityView{Identity: id, Kind: "cluster", Endpoints: v.using[id.ID]})
	}
	slices.SortFunc(out, func(a, b IdentityView) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// withoutCluster lists those that have a meaning of their own.
func (v *View) withoutCluster() []IdentityView {
	var out []IdentityView
	for id, name := range model.ReservedNames() {
		labels := model.NewLabels(model.Label{Source: model.SourceReserved, Key: name})
		out = append(out, IdentityView{Identity: model.Identity{ID: id, Labels: labels}, Kind: "reserved"})
	}
	for prefix, id := range v.prefixes {
		labels := model.NewLabels(model.Label{Source: model.SourceCIDR, Key: prefix.String()})
		out = append(out, IdentityView{Identity: model.Identity{ID: id, Labels: labels}, Kind: "cidr"})
	}
	return out
}
