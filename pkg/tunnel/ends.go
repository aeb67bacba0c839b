// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Overhead is what the tunnel adds to a packet, by the family of its ends: Ethernet,
// VXLAN, UDP and IP.
func Overhead(end netip.Addr) int {
	if end.Is4() {
		return 14 + 8 + 8 + 20
	}
	return 14 + 8 + 8 + 40
}

// End is the other end of the tunnel to a node.
type End struct {
	Node string
	Addr netip.Addr
}

// Ends lists where the tunnels to other nodes end, by node, and of nodes that have
// no good end why not. Hosts are this node's addresses. An end is the first of a
// node's addresses, of IPv4 if this node has that and the other one too.
func Ends(self string, hosts []netip.Addr, nodes []model.ClusterNode) (ends []End, faults []string) {
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b model.ClusterNode) int { return cmp.Compare(a.Name, b.Name) })
	families := familiesOf(self, hosts, nodes)
	whose := make(map[netip.Addr]string, len(nodes))
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		fail := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("pods of node %s cannot be reached: ", n.Name)+fmt.Sprintf(format, args...))
		}
		a, ok := families.first(n.Addrs)
		other, taken := whose[a]
		switch {
		case !ok:
			fail("it has no address of a family that this node has too")
		case slices.Contains(hosts, a):
			fail("its address %s is this node's; correct the addresses of the Node", a)
		case taken:
			fail("its address %s is that of node %s; correct the addresses of the Nodes", a, other)
		default:
			whose[a] = n.Name
			ends = append(ends, End{n.Name, a})
		}
	}
	return ends, faults
}

// families are those that this node has an address of.
type families struct{ v4, v6 bool }

// familiesOf goes by what other nodes know of this one, or else by all of its
// addresses.
func familiesOf(self string, hosts []netip.Addr, nodes []model.ClusterNode) (f families) {
	for _, n := range nodes {
		if n.Name == self && len(n.Addrs) > 0 {
			hosts = n.Addrs
		}
	}
	for _, a := range hosts {
		f.v4, f.v6 = f.v4 || a.Is4(), f.v6 || a.Is6()
	}
	return f
}

func (f families) first(addrs []netip.Addr) (netip.Addr, bool) {
	for _, v4 := range []bool{true, false} {
		i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == v4 })
		if i >= 0 && (v4 && f.v4 || !v4 && f.v6) {
			return addrs[i], true
		}
	}
	return netip.Addr{}, false
}
