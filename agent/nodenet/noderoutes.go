// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
)

// nodeRouteProtocol marks the routes to other nodes' pods (rtm_protocol), so that
// they are told from those to this node's.
const nodeRouteProtocol = podnet.RouteProtocol + 1

// NodeRoutes keeps a route to the pods of each other node that is on a network of
// this one. Policy does not depend on it.
type NodeRoutes struct {
	self  string
	nodes func() (all []model.ClusterNode, known bool, changed <-chan struct{})
	log   *slog.Logger

	mu     sync.Mutex
	routes int
	faults []string
}

// NewNodeRoutes keeps routes to the nodes that nodes lists, of which self is this
// one; while they are not known nothing changes. changed closes when they are others.
func NewNodeRoutes(self string, nodes func() (all []model.ClusterNode, known bool, changed <-chan struct{}), log *slog.Logger) *NodeRoutes {
	return &NodeRoutes{self: self, nodes: nodes, log: log}
}

// Run keeps the routes until ctx ends; they stay then.
func (r *NodeRoutes) Run(ctx context.Context) error {
	return watch(ctx, r.log, "the routes to other nodes", r.refresh, r.nodeChanges, linkChanges, addressChanges, nodeRouteChanges)
}

// Describe says how many routes there are.
func (r *NodeRoutes) Describe() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.routes == 1 {
		return "a route to the pods of other nodes"
	}
	return fmt.Sprintf("%d routes to the pods of other nodes", r.routes)
}

// Faults lists the nodes whose pods cannot be reached, and why.
func (r *NodeRoutes) Faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.faults)
}

// nodeRoute is the way to a range of pods.
type nodeRoute struct {
	to   netip.Prefix
	via  netip.Addr // not set: by the tunnel
	node string
}

// wantedRoutes lists the ways to other nodes' pods, and the nodes that have none.
func wantedRoutes(self string, nodes []model.ClusterNode) (routes []nodeRoute, faults []string) {
	for _, n := range nodes {
		if n.Name == self {
			continue
		}
		for _, p := range n.PodCIDRs {
			i := slices.IndexFunc(n.Addrs, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
			if i < 0 {
				faults = append(faults, fmt.Sprintf("pods %s of node %s cannot be reached: the node has no address of that family", p, n.Name))
				continue
			}
			routes = append(routes, nodeRoute{to: p, via: n.Addrs[i], node: n.Name})
		}
	}
	return sortRoutes(routes), faults
}

// sortRoutes has each range once, by the first of the nodes that claim it.
func sortRoutes(routes []nodeRoute) []nodeRoute {
	slices.SortFunc(routes, func(a, b nodeRoute) int {
		return cmp.Or(a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.to.Bits(), b.to.Bits()), cmp.Compare(a.node, b.node))
	})
	return slices.CompactFunc(routes, func(a, b nodeRoute) bool { return a.to == b.to })
}

func (r *NodeRoutes) refresh() error {
	nodes, known, _ := r.nodes()
	if !known {
		return nil
	}
	wanted, faults := wantedRoutes(r.self, nodes)
	around, err := lookNearby(r.self, nodes)
	if err != nil {
		return err
	}
	keep := make(map[string]bool, len(wanted))
	set := 0
	for _, w := range wanted {
		route, fault := routeTo(w, around)
		if fault != "" {
			faults = append(faults, fault)
		}
		if route == nil {
			continue
		}
		if err := netlink.RouteReplace(route); err != nil {
			faults = append(faults, fmt.Sprintf("the route to pods %s of node %s via %s cannot be set: %v", w.to, w.node, w.via, err))
			continue
		}
		keep[routeKey(*route)] = true
		set++
	}
	if err := removeRoutes(nodeRouteProtocol, func(route netlink.Route) bool { return !keep[routeKey(route)] }); err != nil {
		faults = append(faults, err.Error())
	}
	r.note(set, faults)
	return nil
}

// note records the outcome, and logs what is new of it.
func (r *NodeRoutes) note(set int, faults []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(r.faults, f) {
			r.log.Warn("pods of a node cannot be reached", "problem", f)
		}
	}
	r.routes, r.faults = set, faults
}

func routeKey(r netlink.Route) string { return fmt.Sprint(r.Dst, r.Gw, r.LinkIndex) }

// routeTo makes the route; none where it would take something away, or where the
// node is beyond a router: there the network must lead to its pods, and a route that
// is there already says that it does.
func routeTo(w nodeRoute, around vicinity) (*netlink.Route, string) {
	if why := around.clash(w); why != "" {
		return nil, fmt.Sprintf("pods %s of node %s cannot be reached: the range %s; correct podCIDRs of its WeftNode, or that route or address", w.to, w.node, why)
	}
	found, err := netlink.RouteGet(w.via.AsSlice())
	switch {
	case err != nil || len(found) == 0:
		return nil, fmt.Sprintf("pods %s of node %s cannot be reached: there is no route to its address %s", w.to, w.node, w.via)
	case found[0].Type == unix.RTN_LOCAL:
		return nil, fmt.Sprintf("pods %s of node %s cannot be reached: its address %s is this node's; correct the addresses of the Node", w.to, w.node, w.via)
	case found[0].Gw != nil || found[0].Via != nil:
		if around.ledTo(w.to) {
			return nil, ""
		}
		return nil, fmt.Sprintf("pods %s of node %s cannot be reached: its address %s is behind a router; "+
			"connect the nodes by one network, or set a route to the range", w.to, w.node, w.via)
	case around.sameRoute(w):
		return nil, ""
	}
	family := netlink.FAMILY_V6
	if w.to.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	return &netlink.Route{
		Dst: &net.IPNet{IP: w.to.Addr().AsSlice(), Mask: net.CIDRMask(w.to.Bits(), w.to.Addr().BitLen())},
		Gw:  w.via.AsSlice(), LinkIndex: found[0].LinkIndex, Family: family,
		Protocol: nodeRouteProtocol, Table: unix.RT_TABLE_MAIN,
	}, ""
}

// nodeChanges tells when the nodes are others.
func (r *NodeRoutes) nodeChanges(done <-chan struct{}, changed func(), _ func(error)) error {
	return follow(done, changed, func() <-chan struct{} { _, _, next := r.nodes(); return next })
}

// nodeRouteChanges tells when someone removes one of the routes.
func nodeRouteChanges(done <-chan struct{}, changed func(), failed func(error)) error {
	updates := make(chan netlink.RouteUpdate, 64)
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		each(updates, done, func(u netlink.RouteUpdate) {
			if u.Type == unix.RTM_DELROUTE && u.Protocol == nodeRouteProtocol {
				changed()
			}
		}, failed)
	}
	return err
}

// removeAllRoutes removes every route of ours.
func removeAllRoutes() error {
	all := func(netlink.Route) bool { return true }
	return errors.Join(removeRoutes(podnet.RouteProtocol, all), removeRoutes(nodeRouteProtocol, all))
}
