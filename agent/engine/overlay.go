// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/pkg/tunnel"
)

// overlay is where the tunnel between nodes leads; nil: there is none.
type overlay struct {
	rows    []model.NodeRow   // by number, this node's first
	numbers map[string]uint16 // of nodes that are reached by the tunnel
	ranges  tunnel.Ranges
}

// overlay numbers the nodes of a snapshot. One that has no good end of the tunnel, or
// no number, has no row: nothing leads to it and nothing of it is believed. (What is
// wrong with ends agent/nodenet tells.)
func (e *Engine) overlay(s state.Snapshot) *overlay {
	if !e.cfg.Node.Tunnel {
		return nil
	}
	ends, _ := tunnel.Ends(e.cfg.Node.Name, s.HostAddrs, s.Nodes)
	numbers, err := e.numbers.Update(ends, e.rec.NodeHeld)
	if err != nil {
		e.cfg.Log.Error("pods of a node cannot be reached", "error", err)
	}
	return newOverlay(e.cfg.Node, s, ends, numbers)
}

// newOverlay is pure. What another node says to have of this node's range does not
// count.
func newOverlay(node Node, s state.Snapshot, ends []tunnel.End, numbers map[string]uint16) *overlay {
	others := make([]model.ClusterNode, 0, len(s.Nodes))
	byName := make(map[string]model.ClusterNode, len(s.Nodes))
	for _, n := range s.Nodes {
		if n.Name == node.Name {
			continue
		}
		n.PodCIDRs = slices.DeleteFunc(slices.Clone(n.PodCIDRs), func(p netip.Prefix) bool {
			return slices.ContainsFunc(node.PodCIDRs, p.Overlaps)
		})
		others, byName[n.Name] = append(others, n), n
	}
	o := &overlay{numbers: numbers, ranges: tunnel.NewRanges(others), rows: []model.NodeRow{nodeRow(0, netip.Addr{}, node.PodCIDRs)}}
	for _, end := range ends {
		if number, ok := numbers[end.Node]; ok {
			o.rows = append(o.rows, nodeRow(number, end.Addr, byName[end.Node].PodCIDRs))
		}
	}
	slices.SortFunc(o.rows, func(a, b model.NodeRow) int { return int(a.Number) - int(b.Number) })
	return o
}

func nodeRow(number uint16, outer netip.Addr, ranges []netip.Prefix) model.NodeRow {
	row := model.NodeRow{Number: number, Outer: outer}
	for _, p := range ranges {
		if p = p.Masked(); p.Addr().Is4() {
			row.IPv4 = p
		} else {
			row.IPv6 = p
		}
	}
	return row
}

// addresses are those of other nodes, with the numbers that lead there. Of several
// nodes that claim one it is that whose end it is, or else the first by name.
func (o *overlay) addresses(s state.Snapshot) map[netip.Addr]uint16 {
	if o == nil {
		return nil
	}
	out := make(map[netip.Addr]uint16, 2*len(o.rows))
	for _, row := range o.rows {
		out[row.Outer] = row.Number
	}
	for _, n := range s.Nodes { // sorted by name
		for _, a := range n.Addrs {
			if number, ok := o.numbers[n.Name]; ok && out[a] == 0 {
				out[a] = number
			}
		}
	}
	return out
}

// leads is the number of the node in whose range a prefix is.
func (o *overlay) leads(p netip.Prefix) uint16 {
	if o == nil {
		return 0
	}
	name, _ := o.ranges.Find(p)
	return o.numbers[name]
}

// wire are the identities that are believed of what comes by the tunnel: those that
// every set of the steps to come knows.
func (st step) wire() map[model.IdentityID]struct{} {
	if st.overlay == nil {
		return nil
	}
	out := make(map[model.IdentityID]struct{}, len(st.lasting))
	for _, id := range st.lasting {
		if id.ID.IsCluster() {
			out[id.ID] = struct{}{}
		}
	}
	return out
}
