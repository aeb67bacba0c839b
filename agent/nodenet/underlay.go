// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/tunnel"
)

// underlay is what carries the tunnel.
type underlay struct {
	ends    []tunnel.End
	devices []int  // indexes of those by which other nodes are reached, sorted
	mtu     int    // smallest of theirs; 0: there are none
	narrow  string // the device that has it
	faults  []string
}

// lookUnder finds the ways to the ends. own are the addresses by which other nodes
// know this one: they take a frame from the first of its family only.
func lookUnder(ends []tunnel.End, own []netip.Addr) underlay {
	u := underlay{ends: ends}
	for _, e := range ends {
		found, err := netlink.RouteGet(e.Addr.AsSlice())
		if err != nil || len(found) == 0 || found[0].Type != unix.RTN_UNICAST {
			u.faults = append(u.faults, fmt.Sprintf("pods of node %s cannot be reached: there is no route to its address %s", e.Node, e.Addr))
			continue
		}
		if fault := wrongSource(found[0], e, own); fault != "" {
			u.faults = append(u.faults, fault)
		}
		if i := found[0].LinkIndex; !slices.Contains(u.devices, i) {
			u.devices = append(u.devices, i)
		}
	}
	slices.Sort(u.devices)
	slices.Sort(u.faults)
	u.faults = slices.Compact(u.faults)
	u.devices = slices.DeleteFunc(u.devices, func(index int) bool { return !u.measure(index) })
	return u
}

func wrongSource(r netlink.Route, e tunnel.End, own []netip.Addr) string {
	src, ok := netip.AddrFromSlice(r.Src)
	i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == e.Addr.Is4() })
	if src = src.Unmap(); !ok || i < 0 || src == own[i] {
		return ""
	}
	return fmt.Sprintf("other nodes know this one by its address %s and drop what comes from %s, which is what routes to them say; "+
		"make the two one, by the kubelet's --node-ip or the source of the routes", own[i], src)
}

// measure takes a device into account, unless it has gone since or cannot carry the
// tunnel.
func (u *underlay) measure(index int) bool {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return false
	}
	a := link.Attrs()
	switch {
	case a.Name == TunnelDeviceName:
		u.faults = append(u.faults, "the way to other nodes leads by the tunnel itself: a range of pods contains the address of a node; correct podCIDRs of its WeftNode")
		return false
	case !fit(a):
		u.faults = append(u.faults, a.Name+", by which other nodes are reached, is no Ethernet device; what comes by it through the tunnel is dropped")
	}
	if u.mtu == 0 || a.MTU < u.mtu {
		u.mtu, u.narrow = a.MTU, a.Name
	}
	return true
}

// overhead is what the tunnel adds at most. Without other nodes it goes by what this
// one has.
func (u underlay) overhead(own []netip.Addr) int {
	most := 0
	for _, e := range u.ends {
		most = max(most, tunnel.Overhead(e.Addr))
	}
	if most > 0 {
		return most
	}
	if v6 := netip.IPv6Unspecified(); len(own) > 0 && !slices.ContainsFunc(own, netip.Addr.Is4) {
		return tunnel.Overhead(v6)
	}
	return tunnel.Overhead(netip.IPv4Unspecified())
}

// mtuInside is the size of the largest packet in the tunnel, and what is wrong with it.
func mtuInside(configured uint16, u underlay, own []netip.Addr, pods []netip.Prefix) (uint16, []string, error) {
	around := u.mtu
	if configured == 0 || around == 0 {
		out, err := MTU(0)
		if err != nil {
			return 0, nil, err
		}
		if around == 0 || int(out) < around {
			around = int(out)
		}
	}
	mtu := int(configured)
	if mtu == 0 {
		mtu = around - u.overhead(own)
	}
	var faults []string
	if u.mtu > 0 && mtu+u.overhead(own) > u.mtu {
		faults = append(faults, fmt.Sprintf("packets of %d bytes (mtu) and the %d that the tunnel adds are larger than %s lets pass (%d): they are lost; lower mtu, or 0 finds it",
			mtu, u.overhead(own), u.narrow, u.mtu))
	}
	if mtu < minMTU6 && slices.ContainsFunc(pods, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		faults = append(faults, fmt.Sprintf("the tunnel has room for packets of %d bytes, and IPv6 asks for %d: the devices between nodes need an MTU of at least %d", mtu, minMTU6, minMTU6+u.overhead(own)))
	}
	return uint16(max(mtu, minMTU4)), faults, nil
}

// What a device must let pass for the kernel to have the family on it.
const (
	minMTU4 = 68
	minMTU6 = 1280
)

// ownAddrs are the addresses by which other nodes know this one.
func ownAddrs(self string, nodes []model.ClusterNode) ([]netip.Addr, []netip.Prefix) {
	for _, n := range nodes {
		if n.Name == self {
			return n.Addrs, n.PodCIDRs
		}
	}
	return nil, nil
}
