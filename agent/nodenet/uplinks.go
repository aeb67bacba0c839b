// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
)

// UplinksConfig says which devices are uplinks, and for which families.
type UplinksConfig struct {
	Devices []string // by name; empty: those of the default routes
	IPv4    bool
	IPv6    bool
	// HostPorts tells that ports of the node lead to pods, at first; see SetHostPorts.
	HostPorts bool
	// Underlay are the devices by which other nodes are reached through the tunnel,
	// by index: those are uplinks, too, for only what comes in by an uplink is believed
	// to be the tunnel's. nil: there is no tunnel. changed closes when they are others.
	Underlay func() (devices []int, changed <-chan struct{})
}

// off tells that nothing is to be an uplink.
func (c UplinksConfig) off() bool { return !c.IPv4 && !c.IPv6 && c.Underlay == nil }

// Uplinks watches the devices by which packets leave the cluster.
type Uplinks struct {
	cfg      UplinksConfig
	onChange func([]model.Uplink) error
	log      *slog.Logger
	had      []string // uplinks so far, by which pods leave under the node's address
	under    []string // those that are some for the tunnel's sake alone
	last     []model.Uplink
	called   bool
	again    chan struct{} // whether there are host ports has changed; holds one

	mu     sync.Mutex // over what others read or write
	ports  bool
	text   string
	faults []string
}

// NewUplinks calls onChange, from Refresh and Run, with the uplinks by name: at the
// start, whenever they or their addresses are others, and again where it failed.
// A device that was an uplink, as those in had were, stays one while it exists,
// unless the configuration names others: its open flows must be turned back also
// while its default route is away for a moment. With host ports every device by which
// the node has an address is one, too; what pods send by it keeps its source.
func NewUplinks(cfg UplinksConfig, had []string, onChange func([]model.Uplink) error, log *slog.Logger) *Uplinks {
	return &Uplinks{cfg: cfg, had: had, onChange: onChange, log: log, ports: cfg.HostPorts, again: make(chan struct{}, 1)}
}

// SetHostPorts tells whether ports of the node lead to pods.
func (u *Uplinks) SetHostPorts(on bool) {
	u.mu.Lock()
	changed := u.ports != on
	u.ports = on
	u.mu.Unlock()
	if changed {
		offer(u.again, struct{}{})
	}
}

func (u *Uplinks) hostPorts() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ports
}

// portChanges is SetHostPorts as a subscription.
func (u *Uplinks) portChanges(done <-chan struct{}, changed func(), _ func(error)) error {
	go func() { // ends with the subscription
		for {
			select {
			case <-done:
				return
			case <-u.again:
				changed()
			}
		}
	}()
	return nil
}

// Run watches until ctx ends.
func (u *Uplinks) Run(ctx context.Context) error {
	return watch(ctx, u.log, "uplinks", u.Refresh, linkChanges, addressChanges, defaultRouteChanges, u.underlayChanges, u.portChanges)
}

// underlayChanges tells when other nodes are reached by other devices.
func (u *Uplinks) underlayChanges(done <-chan struct{}, changed func(), _ func(error)) error {
	if u.cfg.Underlay == nil {
		return nil
	}
	return follow(done, changed, func() <-chan struct{} { _, next := u.cfg.Underlay(); return next })
}

// Refresh looks once.
func (u *Uplinks) Refresh() error {
	if u.cfg.off() && !u.hostPorts() {
		return u.refresh(surroundings{})
	}
	seen, err := lookAround()
	if err != nil {
		return err
	}
	if u.cfg.Underlay != nil {
		seen.underlay, _ = u.cfg.Underlay()
	}
	return u.refresh(seen)
}

func (u *Uplinks) refresh(seen surroundings) error {
	if !u.called && u.cfg.Underlay != nil {
		u.sortOut(seen)
	}
	u.tellFaults(u.findFaults(seen))
	now := u.choose(seen)
	if u.called && slices.Equal(now, u.last) {
		return nil
	}
	if err := u.onChange(now); err != nil {
		return err
	}
	u.last, u.called = now, true
	u.remember(seen, now)
	text := u.describe(now)
	u.mu.Lock()
	u.text = text
	u.mu.Unlock()
	u.log.Info("packets of pods leave the cluster by these devices", "uplinks", text, "attached", len(now))
	return nil
}

// sortOut tells those that an earlier agent made uplinks for the tunnel's sake from
// those by which packets left: only these have default routes.
func (u *Uplinks) sortOut(s surroundings) {
	had := append(u.had, u.under...)
	u.had, u.under = nil, nil
	for _, l := range s.links {
		a := l.Attrs()
		switch {
		case !slices.Contains(had, a.Name):
		case u.wanted(s, a):
			u.had = append(u.had, a.Name)
		default:
			u.under = append(u.under, a.Name)
		}
	}
}

// remember keeps what each uplink is one for.
func (u *Uplinks) remember(s surroundings, now []model.Uplink) {
	var had, under []string
	for _, l := range s.links {
		a := l.Attrs()
		if !slices.ContainsFunc(now, func(n model.Uplink) bool { return n.Name == a.Name }) {
			continue
		}
		if u.wanted(s, a) {
			had = append(had, a.Name)
		} else if u.cfg.Underlay != nil {
			under = append(under, a.Name)
		}
	}
	u.had, u.under = had, under
}

// findFaults is what keeps packets from leaving as the configuration asks.
func (u *Uplinks) findFaults(s surroundings) []string {
	if !u.cfg.IPv4 && !u.cfg.IPv6 {
		return nil
	}
	var out []string
	for _, name := range u.cfg.Devices {
		if !slices.ContainsFunc(s.links, func(l netlink.Link) bool { return l.Attrs().Name == name }) {
			out = append(out, name+" does not exist (masquerade.devices)")
		}
	}
	for _, l := range s.links {
		if a := l.Attrs(); u.wanted(s, a) && !fit(a) {
			out = append(out, a.Name+" is no Ethernet device to the outside; what leaves by it keeps the pods' addresses")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// tellFaults logs those that are new.
func (u *Uplinks) tellFaults(now []string) {
	for _, fault := range now {
		if !slices.Contains(u.faults, fault) {
			u.log.Error("a device cannot be an uplink", "fault", fault)
		}
	}
	u.mu.Lock()
	u.faults = now
	u.mu.Unlock()
}

// Faults are what keeps packets from leaving as the configuration asks, for people.
func (u *Uplinks) Faults() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.faults)
}

// Describe tells people what leaves by which device under which address.
func (u *Uplinks) Describe() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !u.cfg.IPv4 && !u.cfg.IPv6:
		return "masquerade is off; packets leave with the pods' addresses"
	case u.text == "none":
		return "no device to the outside; packets leave with the pods' addresses"
	}
	return "packets leave by " + u.text
}

// describe tells of the devices by which pods leave under the node's address; those
// that only lead in are not among them.
func (u *Uplinks) describe(list []model.Uplink) string {
	return describeUplinks(slices.DeleteFunc(slices.Clone(list), func(l model.Uplink) bool { return l.OnlyIn }))
}

func describeUplinks(list []model.Uplink) string {
	if len(list) == 0 {
		return "none"
	}
	var out []string
	for _, u := range list {
		text := u.Name
		for _, a := range []netip.Addr{u.IPv4, u.IPv6} {
			if a.IsValid() {
				text += " " + a.String()
			}
		}
		if !u.IPv4.IsValid() && !u.IPv6.IsValid() {
			text += " (no address: pods keep theirs)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// surroundings is what the choice of uplinks depends on.
type surroundings struct {
	underlay []int // devices by which other nodes are reached through the tunnel
	links    []netlink.Link
	defaults []netlink.Route
	addrs    []netlink.Addr
}

func lookAround() (surroundings, error) {
	var s surroundings
	var err error
	if s.links, err = podnet.Dump(netlink.LinkList); err != nil {
		return s, fmt.Errorf("listing devices: %w", err)
	}
	if s.addrs, err = podnet.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) }); err != nil {
		return s, fmt.Errorf("listing addresses: %w", err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := podnet.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return s, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			if r.Family = family; isDefault(r) && r.Type == unix.RTN_UNICAST {
				s.defaults = append(s.defaults, r)
			}
		}
	}
	return s, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified()
}

// choose is the uplinks in these surroundings, by name.
func (u *Uplinks) choose(s surroundings) []model.Uplink {
	var out []model.Uplink
	ports := u.hostPorts()
	for _, l := range s.links {
		a := l.Attrs()
		leaves := u.wanted(s, a)
		in := slices.Contains(s.underlay, a.Index) || slices.Contains(u.under, a.Name) || ports && s.hasAddr(a.Index)
		if !fit(a) || !leaves && !in {
			continue
		}
		up := model.Uplink{Name: a.Name, Index: uint32(a.Index), OnlyIn: !leaves}
		if leaves && u.cfg.IPv4 {
			up.IPv4 = s.sourceAddr(a.Index, netlink.FAMILY_V4)
		}
		if leaves && u.cfg.IPv6 {
			up.IPv6 = s.sourceAddr(a.Index, netlink.FAMILY_V6)
		}
		out = append(out, up)
	}
	slices.SortFunc(out, func(a, b model.Uplink) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// hasAddr tells whether the host has an address at a device that others can reach.
func (s surroundings) hasAddr(ifindex int) bool {
	return slices.ContainsFunc(s.addrs, func(a netlink.Addr) bool {
		return a.LinkIndex == ifindex && a.Scope == unix.RT_SCOPE_UNIVERSE
	})
}

func (u *Uplinks) wanted(s surroundings, a *netlink.LinkAttrs) bool {
	if !u.cfg.IPv4 && !u.cfg.IPv6 {
		return false
	}
	if len(u.cfg.Devices) > 0 {
		return slices.Contains(u.cfg.Devices, a.Name)
	}
	if slices.Contains(u.had, a.Name) {
		return true
	}
	return slices.ContainsFunc(s.defaults, func(r netlink.Route) bool {
		on := r.Family == netlink.FAMILY_V4 && u.cfg.IPv4 || r.Family == netlink.FAMILY_V6 && u.cfg.IPv6
		return on && leadsBy(r, a.Index)
	})
}

// fit tells whether the programs can read the device's packets.
func fit(a *netlink.LinkAttrs) bool {
	return a.EncapType == "ether" && a.Flags&net.FlagLoopback == 0 && !attachment.IsHostDevice(a.Name) && a.Name != TunnelDeviceName
}

// leadsBy tells whether a route leads out by a device.
func leadsBy(r netlink.Route, ifindex int) bool {
	return r.LinkIndex == ifindex ||
		slices.ContainsFunc(r.MultiPath, func(h *netlink.NexthopInfo) bool { return h.LinkIndex == ifindex })
}

// sourceAddr is what the host itself would send from by that device: what its
// default route asks for, or else the first good address.
func (s surroundings) sourceAddr(ifindex, family int) netip.Addr {
	for _, r := range s.defaults {
		if r.Family == family && leadsBy(r, ifindex) && r.Src != nil {
			src, _ := netip.AddrFromSlice(r.Src)
			return src.Unmap()
		}
	}
	const bad = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED | unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	var second netip.Addr
	for _, a := range s.addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		if !ok || a.LinkIndex != ifindex || a.Scope != unix.RT_SCOPE_UNIVERSE || ip.Is4() != (family == netlink.FAMILY_V4) {
			continue
		}
		if a.Flags&bad == 0 {
			return ip
		}
		if !second.IsValid() && a.Flags&unix.IFA_F_DADFAILED == 0 {
			second = ip
		}
	}
	return second
}
