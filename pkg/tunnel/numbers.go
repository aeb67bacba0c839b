// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// Numbers are those by which the kernel knows nodes, by the end of the tunnel. One
// stays while its end does, as flows in the kernel hold it.
type Numbers struct {
	of   map[netip.Addr]uint16
	last uint16
}

// NewNumbers takes up what an earlier agent gave.
func NewNumbers(rows []model.NodeRow) *Numbers {
	n := &Numbers{of: make(map[netip.Addr]uint16, len(rows))}
	for _, r := range rows {
		if r.Number != 0 && r.Outer.IsValid() {
			n.of[r.Outer] = r.Number
			n.last = max(n.last, r.Number)
		}
	}
	return n
}

// Update gives the ends their numbers. A number that is let go is used again as late
// as can be, and not while the kernel holds it.
func (n *Numbers) Update(ends []End, held func(uint16) bool) (map[string]uint16, error) {
	wanted := make(map[netip.Addr]bool, len(ends))
	for _, e := range ends {
		wanted[e.Addr] = true
	}
	used := make(map[uint16]bool, len(n.of))
	for addr, number := range n.of {
		if !wanted[addr] && !held(number) {
			delete(n.of, addr)
			continue
		}
		used[number] = true
	}
	out := make(map[string]uint16, len(ends))
	for _, e := range ends {
		number, ok := n.of[e.Addr]
		if !ok {
			if number = n.next(used); number == 0 {
				return out, fmt.Errorf("there are more than %d nodes; the kernel's table of tunnels has no room for %s", model.MaxNodeNumber, e.Node)
			}
			n.of[e.Addr], used[number], n.last = number, true, number
		}
		out[e.Node] = number
	}
	return out, nil
}

// next is the first free number behind the last that was given; 0: none.
func (n *Numbers) next(used map[uint16]bool) uint16 {
	for number, i := n.last, 0; i < int(model.MaxNodeNumber); i++ {
		if number++; number > model.MaxNodeNumber {
			number = 1
		}
		if !used[number] {
			return number
		}
	}
	return 0
}
