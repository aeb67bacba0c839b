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

// addresses say what each address is, by how that differs from the compilation
// before. Where several say something of the same prefix, a local endpoint comes
// first, then the host, pods of other nodes, API servers, other nodes, pods of this node
// that are not attached, and then what policies and the cluster's ranges say of it
// (policy.IPRows). With a tunnel the rows of what is at another node lead there.
type addresses struct {
	above, below ipRows                // what counts more, and less, than pods of other nodes
	open         map[netip.Prefix]bool // to be told
	overlay      *overlay
	at           map[netip.Addr]uint16 // nodes that addresses of nodes are at
}

type ipRows = map[netip.Prefix]model.IPRow

func newAddresses() *addresses { return &addresses{open: make(map[netip.Prefix]bool)} }

// lead notes that pods of other nodes have changed at some addresses.
func (a *addresses) lead(addrs []netip.Addr) {
	for _, addr := range addrs {
		a.open[whole(addr)] = true
	}
}

// changes tells what has changed. Each change is told once.
func (a *addresses) changes(node Node, s state.Snapshot, by *overlay, endpoints []boundEndpoint, pods *directory, prefixes prefixIDs) (ch model.IPChanges) {
	if !by.same(a.overlay) {
		pods.each(func(o *owner) { a.open[whole(o.addr)] = true })
	}
	a.overlay, a.at = by, by.addresses(s)
	above, below := rowsAbove(s, endpoints), a.rowsBelow(node, s, prefixes)
	a.compare(a.above, above)
	a.compare(a.below, below)
	a.above, a.below = above, below
	for p := range a.open {
		if row, ok := a.row(p, pods); ok {
			ch.Put = append(ch.Put, row)
		} else {
			ch.Gone = append(ch.Gone, p)
		}
	}
	a.open = make(map[netip.Prefix]bool)
	slices.SortFunc(ch.Put, func(x, y model.IPRow) int { return policy.ComparePrefixes(x.Prefix, y.Prefix) })
	slices.SortFunc(ch.Gone, policy.ComparePrefixes)
	return ch
}

// compare notes the prefixes of which rows say something else than before.
func (a *addresses) compare(before, now ipRows) {
	for p, row := range now {
		if before[p] != row {
			a.open[p] = true
		}
	}
	for p := range before {
		if _, ok := now[p]; !ok {
			a.open[p] = true
		}
	}
}

func (a *addresses) row(p netip.Prefix, pods *directory) (model.IPRow, bool) {
	if row, ok := a.above[p]; ok {
		return row, true
	}
	if p.IsSingleIP() {
		if o, ok := pods.find(p.Addr()); ok && o.identity != model.IdentityNone {
			return a.elsewhere(o.addr, o.identity), true
		}
	}
	row, ok := a.below[p]
	return row, ok
}

func rowsAbove(s state.Snapshot, endpoints []boundEndpoint) ipRows {
	rows := make(ipRows, len(s.HostAddrs)+2*len(endpoints))
	for _, a := range s.HostAddrs {
		rows[whole(a)] = model.IPRow{Prefix: whole(a), Identity: model.IdentityHost}
	}
	for _, e := range endpoints {
		for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
			if a.IsValid() {
				rows[whole(a)] = model.IPRow{Prefix: whole(a), Identity: e.identity.ID, Slot: e.Slot}
			}
		}
	}
	return rows
}

// elsewhere is the row of an address of another node, or of a pod there.
func (a *addresses) elsewhere(addr netip.Addr, id model.IdentityID) model.IPRow {
	p := whole(addr)
	return model.IPRow{Prefix: p, Identity: id, Node: cmp.Or(a.overlay.leads(p), a.at[addr])}
}

func (a *addresses) rowsBelow(node Node, s state.Snapshot, prefixes prefixIDs) ipRows {
	rows := make(ipRows, 4*len(s.Nodes)+len(prefixes))
	for _, r := range policy.IPRows(prefixes, clusterRanges(node, s)) {
		r.Node = a.overlay.leads(r.Prefix)
		rows[r.Prefix] = r
	}
	for _, u := range unmanaged(s) {
		for _, addr := range []netip.Addr{u.IPv4, u.IPv6} {
			if addr.IsValid() {
				rows[whole(addr)] = a.elsewhere(addr, u.Identity)
			}
		}
	}
	nodeRows(node.Name, s, func(addr netip.Addr, id model.IdentityID) { rows[whole(addr)] = a.elsewhere(addr, id) })
	return rows
}

// whole is the prefix of an address alone.
func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
