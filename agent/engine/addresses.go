// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// addressRows says what each address is. Where several say something of the
// same prefix, a local endpoint comes first, then the host, then a prefix of a
// rule, then the cluster's own ranges.
//
// A rule's prefix inside the cluster's ranges leads nowhere: what is not known
// there is `unknown`, and CIDR rules speak of the world only.
func addressRows(node Node, hostAddrs []netip.Addr, endpoints []boundEndpoint,
	prefixes map[netip.Prefix]model.IdentityID,
) []model.IPRow {
	rows := make(map[netip.Prefix]model.IPRow)
	for _, p := range node.ClusterCIDRs {
		rows[p.Masked()] = model.IPRow{Prefix: p.Masked(), Identity: model.IdentityUnknown}
	}
	for p, id := range prefixes {
		if p.Bits() > 0 && !insideAny(p, node.ClusterCIDRs) {
			rows[p] = model.IPRow{Prefix: p, Identity: id}
		}
	}
	for _, a := range hostAddrs {
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
	slices.SortFunc(out, func(a, b model.IPRow) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return out
}

func insideAny(p netip.Prefix, ranges []netip.Prefix) bool {
	for _, r := range ranges {
		if r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
