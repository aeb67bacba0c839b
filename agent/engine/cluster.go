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

// remote is a pod of another node, and the identity that its addresses lead to.
type remote struct {
	model.NodeEndpoint
	identity model.IdentityID
	addrs    []netip.Addr // those that nobody else has a better claim to
}

// remotes lists the pods of other nodes, by node, slice and pod. One whose identity
// is not known to the sets keeps the one that the kernel has for its address; where
// there is none, its address is not known: to lead it to a number that sets do not
// know would let it slip past their denies.
func remotes(node Node, s state.Snapshot, ids known, applied func(netip.Prefix) (model.IPRow, bool)) []remote {
	self, owners := node.Name, owners(node, s)
	out := make([]remote, 0, countEndpoints(s))
	addrs := make([]netip.Addr, 0, len(owners)) // of all, in one piece
	for i := range s.NodeSlices {
		slice := &s.NodeSlices[i]
		if slice.Node == self {
			continue
		}
		for j, e := range slice.Endpoints {
			r := remote{NodeEndpoint: e, identity: e.Identity}
			first := len(addrs)
			if !ids.has(e.Identity) && e.Identity != model.IdentityUnmanaged {
				r.identity = lastIdentity(e, ids, applied)
			}
			for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
				if a.IsValid() && owners[a] == (place{i, j}) {
					addrs = append(addrs, a)
				}
			}
			r.addrs = addrs[first:len(addrs):len(addrs)]
			if r.identity != model.IdentityNone && len(r.addrs) > 0 {
				out = append(out, r)
			}
		}
	}
	return out
}

// lastIdentity is what the kernel has for a pod's address, if sets still know it.
func lastIdentity(e model.NodeEndpoint, ids known, applied func(netip.Prefix) (model.IPRow, bool)) model.IdentityID {
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

// place is an endpoint in a snapshot's slices.
type place struct{ slice, endpoint int }

// owners says whose each address is. A node speaks for the addresses of its own
// range alone: it cannot give the API server, the world or another node's pods an
// identity. One whose range is not known, as while its WeftNode is made anew, speaks
// for what is the cluster's and no other node's. Of several pods that claim an
// address it is that of the node that has the range, or else the first by node and
// slice.
func owners(node Node, s state.Snapshot) map[netip.Addr]place {
	self, ranges := node.Name, rangesOf(s)
	out := make(map[netip.Addr]place, 2*countEndpoints(s))
	for i := range s.NodeSlices {
		slice := &s.NodeSlices[i]
		if slice.Node == self {
			continue
		}
		for j, e := range slice.Endpoints {
			for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
				if !a.IsValid() || !may(node, slice.Node, a, ranges) {
					continue
				}
				had, taken := out[a]
				if taken && !better(a, slice, &s.NodeSlices[had.slice], ranges) {
					continue
				}
				out[a] = place{i, j}
			}
		}
	}
	return out
}

// better tells whether slice a's claim to an address beats b's.
func better(addr netip.Addr, a, b *model.NodeSlice, ranges map[string][]netip.Prefix) bool {
	has := func(s *model.NodeSlice) bool {
		return slices.ContainsFunc(ranges[s.Node], func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	if has(a) != has(b) {
		return has(a)
	}
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name)) < 0
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

func countEndpoints(s state.Snapshot) (n int) {
	for i := range s.NodeSlices {
		n += len(s.NodeSlices[i].Endpoints)
	}
	return n
}
