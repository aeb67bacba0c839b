// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/tunnel"
)

// lookAgain is the time between two attempts at a device that could not be made.
const lookAgain = 5 * time.Second

// TunnelConfig says how packets reach the pods of other nodes.
type TunnelConfig struct {
	Self string // name of this node
	Port uint16
	MTU  uint16 // of pods' devices; 0: what the devices between nodes leave
	// Nodes are all of the cluster's; while they are not known nothing changes.
	// changed closes when they are others.
	Nodes func() (all []model.ClusterNode, known bool, changed <-chan struct{})
	// Attach puts the programs on the device; it may be called again with the same.
	Attach func(model.TunnelDevice) error
	// ReadyChanged is called when Ready answers otherwise.
	ReadyChanged func()
	Log          *slog.Logger
}

// Tunnel keeps the device of the tunnel, the routes by it, and what both depend on:
// the devices by which other nodes are reached.
type Tunnel struct {
	cfg  TunnelConfig
	last model.TunnelDevice // with programs

	mu     sync.Mutex // over what others read
	mtu    uint16
	nodes  int
	faults []string
	broken error // the device could not be made
	known  bool  // the other nodes are
	under  underlay
	moved  chan struct{} // closes when under has other devices
}

// NewTunnel makes nothing yet.
func NewTunnel(cfg TunnelConfig) *Tunnel {
	return &Tunnel{cfg: cfg, moved: make(chan struct{})}
}

// Run keeps device and routes until ctx ends; they stay then.
func (t *Tunnel) Run(ctx context.Context) error {
	return watch(ctx, t.cfg.Log, "the tunnel", t.Refresh, t.nodeChanges, linkChanges, addressChanges, t.routeChanges, t.again)
}

// MTU is that of new pods' devices.
func (t *Tunnel) MTU() uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mtu
}

// Underlay lists the devices by which other nodes are reached, by index. changed
// closes when they are others.
func (t *Tunnel) Underlay() (devices []int, changed <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.under.devices, t.moved
}

// Describe tells people how nodes are reached.
func (t *Tunnel) Describe() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	nodes := fmt.Sprintf("%d other nodes", t.nodes)
	if t.nodes == 1 {
		nodes = "one other node"
	}
	return fmt.Sprintf("vxlan, UDP port %d, MTU %d, to %s", t.cfg.Port, t.mtu, nodes)
}

// Faults lists what keeps pods from being reached, and why.
func (t *Tunnel) Faults() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.faults)
}

// Ready tells why packets cannot go by the tunnel yet, or not as large as they may be.
func (t *Tunnel) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ready()
}

func (t *Tunnel) ready() error {
	if t.broken == nil && !t.known {
		return errors.New("the devices between nodes are not known yet")
	}
	return t.broken
}

// Refresh looks once. That the device cannot be made is a fault and no error: all
// that needs no tunnel goes on.
func (t *Tunnel) Refresh() error {
	hosts, err := HostAddresses()
	if err != nil {
		return err
	}
	nodes, known, _ := t.cfg.Nodes()
	ends, faults := tunnel.Ends(t.cfg.Self, hosts.All(), nodes)
	own, pods := ownAddrs(t.cfg.Self, nodes)
	under := lookUnder(ends, own)
	mtu, more, err := mtuInside(t.cfg.MTU, under, own, pods)
	if err != nil {
		return err
	}
	faults = append(faults, append(under.faults, more...)...)
	if !known {
		mtu, faults = t.keepMTU(mtu), nil
	}
	link, broken := ensureTunnel(t.cfg.Port, mtu, t.attach)
	if broken != nil {
		faults = append(faults, "pods of other nodes cannot be reached: "+broken.Error())
	}
	reached := 0
	if known && broken == nil {
		around, err := lookNearby(t.cfg.Self, nodes)
		if err != nil {
			return err
		}
		var unled []string
		reached, unled = t.setRoutes(link.Attrs().Index, nodes, ends, around)
		faults = append(faults, unled...)
	}
	if before, now := t.Ready(), t.note(mtu, reached, faults, under, known, broken); (before == nil) != (now == nil) {
		t.cfg.ReadyChanged()
	}
	return nil
}

// keepMTU is what the device has, while nodes are not known.
func (t *Tunnel) keepMTU(found uint16) uint16 {
	if link, err := findTunnel(); err == nil && link != nil && t.cfg.MTU == 0 {
		return uint16(link.Attrs().MTU)
	}
	return found
}

func (t *Tunnel) attach(d model.TunnelDevice) error {
	if d == t.last {
		return nil
	}
	if err := t.cfg.Attach(d); err != nil {
		return err
	}
	t.last = d
	return nil
}

// setRoutes leads to the pods of each node that has an end, and nowhere else.
func (t *Tunnel) setRoutes(device int, nodes []model.ClusterNode, ends []tunnel.End, around vicinity) (reached int, faults []string) {
	keep := make(map[string]bool, 2*len(ends))
	for _, w := range wantedByTunnel(nodes, ends) {
		if why := around.clash(w); why != "" {
			faults = append(faults, fmt.Sprintf("pods %s of node %s cannot be reached: the range %s; correct podCIDRs of its WeftNode, or that route or address", w.to, w.node, why))
			continue
		}
		route := byTunnel(w.to, device, sourceFor(w.to, t.cfg.Self, around))
		if err := netlink.RouteReplace(route); err != nil {
			faults = append(faults, fmt.Sprintf("the route to pods %s of node %s by %s cannot be set: %v", w.to, w.node, TunnelDeviceName, err))
			continue
		}
		keep[routeKey(*route)] = true
	}
	if err := removeRoutes(nodeRouteProtocol, func(r netlink.Route) bool { return !keep[routeKey(r)] }); err != nil {
		faults = append(faults, err.Error())
	}
	return len(ends), faults
}

// wantedByTunnel lists the ranges of nodes that have ends, each once, by the first
// of the nodes that claim it.
func wantedByTunnel(nodes []model.ClusterNode, ends []tunnel.End) (routes []nodeRoute) {
	for _, n := range nodes {
		if !slices.ContainsFunc(ends, func(e tunnel.End) bool { return e.Node == n.Name }) {
			continue
		}
		for _, p := range n.PodCIDRs {
			routes = append(routes, nodeRoute{to: p, node: n.Name})
		}
	}
	return sortRoutes(routes)
}

// sourceFor is the address with which this node's own sockets speak to pods of a
// range: what others know it by.
func sourceFor(to netip.Prefix, self string, around vicinity) net.IP {
	own, _ := ownAddrs(self, around.nodes)
	for _, a := range own {
		if a.Is4() == to.Addr().Is4() && slices.Contains(around.hosts, a) {
			return a.AsSlice()
		}
	}
	return nil
}

func byTunnel(to netip.Prefix, device int, src net.IP) *netlink.Route {
	r := &netlink.Route{
		Dst:       &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
		LinkIndex: device, Src: src, Family: netlink.FAMILY_V6, Protocol: nodeRouteProtocol, Table: unix.RT_TABLE_MAIN,
	}
	if to.Addr().Is4() {
		r.Family, r.Scope = netlink.FAMILY_V4, netlink.SCOPE_LINK
	}
	return r
}

// note records the outcome, logs what is new of it, and tells what Ready says now.
func (t *Tunnel) note(mtu uint16, nodes int, faults []string, under underlay, known bool, broken error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(t.faults, f) {
			t.cfg.Log.Warn("the tunnel does not work as it should", "problem", f)
		}
	}
	if mtu != t.mtu {
		t.cfg.Log.Info("packets go to other nodes by the tunnel", "port", t.cfg.Port, "mtu", mtu)
	}
	t.mtu, t.faults, t.broken = mtu, faults, broken
	if !known {
		return t.ready()
	}
	t.known, t.nodes = true, nodes
	if !slices.Equal(under.devices, t.under.devices) {
		close(t.moved)
		t.moved = make(chan struct{})
	}
	t.under = under
	return t.ready()
}

// nodeChanges tells when the nodes are others.
func (t *Tunnel) nodeChanges(done <-chan struct{}, changed func(), _ func(error)) error {
	return follow(done, changed, func() <-chan struct{} { _, _, next := t.cfg.Nodes(); return next })
}

// routeChanges tells when a route of ours goes, and when one changes by which another
// node may be reached.
func (t *Tunnel) routeChanges(done <-chan struct{}, changed func(), failed func(error)) error {
	updates := make(chan netlink.RouteUpdate, 64)
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		each(updates, done, func(u netlink.RouteUpdate) {
			ours := u.Protocol == nodeRouteProtocol
			if ours && u.Type == unix.RTM_DELROUTE || !ours && t.leadsToANode(u.Route) {
				changed()
			}
		}, failed)
	}
	return err
}

func (t *Tunnel) leadsToANode(r netlink.Route) bool {
	if isDefault(r) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.under.ends, func(e tunnel.End) bool { return r.Dst.Contains(e.Addr.AsSlice()) })
}

// again has a device that could not be made tried again.
func (t *Tunnel) again(done <-chan struct{}, changed func(), _ func(error)) error {
	go func() { // ends with the subscription
		tick := time.NewTicker(lookAgain)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				t.mu.Lock()
				broken := t.broken
				t.mu.Unlock()
				if broken != nil {
					changed()
				}
			}
		}
	}()
	return nil
}
