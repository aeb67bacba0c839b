// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/state"
)

// prefixIDs are the node-local identities of prefixes.
type prefixIDs = map[netip.Prefix]model.IdentityID

// addressRows says what each address is. Where several say something of the
// same prefix, a local endpoint comes first, then the host, pods of other nodes, API
// servers, other nodes, pods of this node that are not attached, and then what policies
// and the cluster's ranges say of it (policy.IPRows).
// With a tunnel the rows of what is at another node lead there.
func addressRows(node Node, s state.Snapshot, by *overlay, endpoints []boundEndpoint, others []remote, prefixes prefixIDs) []model.IPRow {
	rows := make(map[netip.Prefix]model.IPRow, 2*(len(others)+len(endpoints))+len(prefixes))
	for _, r := range policy.IPRows(prefixes, clusterRanges(node, s)) {
		r.Node = by.leads(r.Prefix)
		rows[r.Prefix] = r
	}
	at := by.addresses(s)
	set := func(a netip.Addr, id model.IdentityID) {
		p := netip.PrefixFrom(a, a.BitLen())
		rows[p] = model.IPRow{Prefix: p, Identity: id, Node: cmp.Or(by.leads(p), at[a])}
	}
	for _, u := range unmanaged(s) {
		for _, a := range []netip.Addr{u.IPv4, u.IPv6} {
			if a.IsValid() {
				set(a, u.Identity)
			}
		}
	}
	nodeRows(node.Name, s, set)
	for _, r := range others {
		for _, a := range r.addrs {
			set(a, r.identity)
		}
	}
	for _, a := range s.HostAddrs {
		p := netip.PrefixFrom(a, a.BitLen())
		rows[p] = model.IPRow{Prefix: p, Identity: model.IdentityHost}
	}
	for _, e := range endpoints {
		for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
			if a.IsValid() {
				p := netip.PrefixFrom(a, a.BitLen())
				rows[p] = model.IPRow{Prefix: p, Identity: e.identity.ID, Slot: e.Slot}
			}
		}
	}
	out := make([]model.IPRow, 0, len(rows))
	for _, r := range rows {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b model.IPRow) int { return policy.ComparePrefixes(a.Prefix, b.Prefix) })
	return out
}
