// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// known are the identities that policy sets are compiled over, sorted by number.
type known []model.Identity

// find looks an identity up by its number.
func (k known) find(id model.IdentityID) (model.Identity, bool) {
	i, ok := slices.BinarySearchFunc(k, id, func(have model.Identity, id model.IdentityID) int { return cmp.Compare(have.ID, id) })
	if !ok {
		return model.Identity{}, false
	}
	return k[i], true
}

func (k known) has(id model.IdentityID) bool { _, ok := k.find(id); return ok }

// with adds identities that are not in it yet; without any, it is k itself.
func (k known) with(more []model.Identity) known {
	if len(more) == 0 {
		return k
	}
	out := append(slices.Clone(k), more...)
	slices.SortFunc(out, func(a, b model.Identity) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(out, func(a, b model.Identity) bool { return a.ID == b.ID })
}

// lastIdentity is what the kernel has for a pod's address, if sets still know it.
func lastIdentity(e model.NodeEndpoint, ids known, applied kernelIP) model.IdentityID {
	for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
		if !a.IsValid() || applied == nil {
			continue
		}
		row, ok := applied(netip.PrefixFrom(a, a.BitLen()))
		if ok && row.Slot == 0 && ids.has(row.Identity) {
			return row.Identity
		}
	}
	return model.IdentityNone
}

// better tells whether claim a to an address beats b: that of the node which has the
// range, or else the first by node, slice and place.
func better(addr netip.Addr, a, b claim, ranges map[string][]netip.Prefix) bool {
	has := func(c claim) bool {
		return slices.ContainsFunc(ranges[c.slice.Node], func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	if has(a) != has(b) {
		return has(a)
	}
	return cmp.Or(cmp.Compare(a.slice.Node, b.slice.Node), cmp.Compare(a.slice.Name, b.slice.Name), cmp.Compare(a.at, b.at)) < 0
}

// clusterRanges are the ranges of the cluster's own addresses: those configured, and
// every node's.
func clusterRanges(node Node, s state.Snapshot) []netip.Prefix {
	out := slices.Clone(node.ClusterCIDRs)
	for _, n := range s.Nodes {
		out = append(out, n.PodCIDRs...)
	}
	return out
}

// nodeRows say what the addresses of other nodes and of the API servers are; the
// latter win.
func nodeRows(self string, s state.Snapshot, add func(netip.Addr, model.IdentityID)) {
	for _, n := range s.Nodes {
		if n.Name == self {
			continue
		}
		for _, a := range n.Addrs {
			add(a, model.IdentityRemoteNode)
		}
	}
	for _, a := range s.APIServers {
		add(a, model.IdentityKubeAPIServer)
	}
}
