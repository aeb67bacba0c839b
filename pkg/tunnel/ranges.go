// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Ranges finds the node that has an address among its pods'. Of several with the
// same range it is the first by name; of ranges within one another the smaller counts.
type Ranges struct {
	nodes map[netip.Prefix]string
	bits  [2][]int // lengths that ranges have, by family, longest first
}

// NewRanges takes those of all nodes.
func NewRanges(nodes []model.ClusterNode) Ranges {
	r := Ranges{nodes: make(map[netip.Prefix]string, 2*len(nodes))}
	for _, n := range nodes {
		for _, p := range n.PodCIDRs {
			p = p.Masked()
			if had, taken := r.nodes[p]; !taken || n.Name < had {
				r.nodes[p] = n.Name
			}
			f := family(p.Addr())
			if !slices.Contains(r.bits[f], p.Bits()) {
				r.bits[f] = append(r.bits[f], p.Bits())
			}
		}
	}
	for f := range r.bits {
		slices.SortFunc(r.bits[f], func(a, b int) int { return b - a })
	}
	return r
}

// Find names the node in whose range all of a prefix is.
func (r Ranges) Find(p netip.Prefix) (node string, ok bool) {
	if !p.IsValid() {
		return "", false
	}
	for _, bits := range r.bits[family(p.Addr())] {
		if bits > p.Bits() {
			continue
		}
		if node, ok = r.nodes[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return node, true
		}
	}
	return "", false
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
