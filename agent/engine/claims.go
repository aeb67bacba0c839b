// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/state"
)

// ForeignClaims names, of each slice of another node that speaks for addresses which
// are not its node's, the first of them; what it says of them does not count.
func ForeignClaims(node Node, s state.Snapshot) (faults []string) {
	ranges := rangesOf(s)
	for i := range s.NodeSlices {
		slice := &s.NodeSlices[i]
		if slice.Node == node.Name {
			continue
		}
		n, first := 0, ""
		for _, e := range slice.Endpoints {
			for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
				if !a.IsValid() || may(node, slice.Node, a, ranges) {
					continue
				}
				if n++; n == 1 {
					first = fmt.Sprintf("%s for pod %s", a, e.Pod)
				}
			}
		}
		if n > 1 {
			first += fmt.Sprintf(" (and %d more)", n-1)
		}
		if n > 0 {
			faults = append(faults, fmt.Sprintf("WeftEndpointSlice %s of node %s claims %s, which is not in that node's ranges %v",
				slice.Name, slice.Node, first, ranges[slice.Node]))
		}
	}
	return faults
}

// rangesOf are the pod ranges of each node that is known.
func rangesOf(s state.Snapshot) map[string][]netip.Prefix {
	out := make(map[string][]netip.Prefix, len(s.Nodes))
	for _, n := range s.Nodes {
		out[n.Name] = n.PodCIDRs
	}
	return out
}

// may tells whether a node may speak for an address.
func may(node Node, name string, addr netip.Addr, ranges map[string][]netip.Prefix) bool {
	has := func(p netip.Prefix) bool { return p.Contains(addr) }
	if own := ranges[name]; len(own) > 0 {
		return slices.ContainsFunc(own, has)
	}
	if !slices.ContainsFunc(node.ClusterCIDRs, has) {
		return false
	}
	for _, of := range ranges {
		if slices.ContainsFunc(of, has) {
			return false
		}
	}
	return true
}
