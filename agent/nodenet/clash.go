// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
)

// vicinity is what routes to other nodes' pods must leave alone: a range that
// is written wrong must not cut this node off.
type vicinity struct {
	own    []netip.Prefix // ranges of this node's pods
	nodes  []model.ClusterNode
	hosts  []netip.Addr    // this node's addresses
	others []netlink.Route // unicast ones of the main table that are not ours
}

func lookNearby(self string, nodes []model.ClusterNode) (vicinity, error) {
	out := vicinity{nodes: nodes}
	for _, n := range nodes {
		if n.Name == self {
			out.own = n.PodCIDRs
		}
	}
	hosts, err := HostAddresses()
	if err != nil {
		return out, err
	}
	out.hosts = hosts.All()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := podnet.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return out, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNICAST && r.Protocol != nodeRouteProtocol && r.Protocol != podnet.RouteProtocol {
				out.others = append(out.others, r)
			}
		}
	}
	return out, nil
}

// clash says what a route would take away, or "".
func (s vicinity) clash(w nodeRoute) string {
	for _, p := range s.own {
		if p.Overlaps(w.to) {
			return fmt.Sprintf("overlaps %s, the range of this node's pods", p)
		}
	}
	for _, a := range s.hosts {
		if w.to.Contains(a) {
			return fmt.Sprintf("contains %s, an address of this node", a)
		}
	}
	for _, n := range s.nodes {
		for _, a := range n.Addrs {
			// What a node says of itself must not take the route from others' pods.
			if w.to.Contains(a) && s.ledTo(netip.PrefixFrom(a, a.BitLen())) {
				return fmt.Sprintf("contains %s, the address of node %s", a, n.Name)
			}
		}
	}
	for i := range s.others {
		r := &s.others[i]
		if hop, ok := netip.AddrFromSlice(r.Gw); ok && w.to.Contains(hop.Unmap()) {
			return fmt.Sprintf("contains %s, a router of this node's", hop.Unmap())
		}
		if to, ok := prefixOf(r); ok && to == w.to && (!w.via.IsValid() || !r.Gw.Equal(w.via.AsSlice())) {
			return "is led to by a route that is not Weft's"
		}
	}
	return ""
}

// ledTo tells whether someone else's route, not the default one, leads to a range.
func (s vicinity) ledTo(p netip.Prefix) bool {
	return slices.ContainsFunc(s.others, func(r netlink.Route) bool {
		to, ok := prefixOf(&r)
		return ok && to.Bits() > 0 && to.Bits() <= p.Bits() && to.Contains(p.Addr())
	})
}

// sameRoute tells whether someone else has set that very route.
func (s vicinity) sameRoute(w nodeRoute) bool {
	return slices.ContainsFunc(s.others, func(r netlink.Route) bool {
		to, ok := prefixOf(&r)
		return ok && to == w.to
	})
}

func prefixOf(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	if v4 := r.Dst.IP.To4(); v4 != nil {
		a, ok = netip.AddrFromSlice(v4)
	}
	ones, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a, ones), ok
}
