// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// localTimeout is generous: on an idle machine it takes a millisecond.
const localTimeout = 10 * time.Second

// SetUpPod gives the pod's device its addresses, routes and neighbours, and sets
// it up. Only when it returns does the pod have a network.
func SetUpPod(netnsPath string, s Spec) error {
	err := ns.WithNetNSPath(netnsPath, func(ns.NetNS) error { return setUpPod(s) })
	if err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}

func setUpPod(s Spec) error {
	link, err := netlink.LinkByName(s.IfName)
	if err != nil {
		return fmt.Errorf("looking up device %s: %w", s.IfName, err)
	}
	if s.IPv6.IsValid() {
		if err := podSysctls(s.IfName); err != nil {
			return err
		}
	}
	for _, a := range s.addrs() {
		if err := netlink.AddrAdd(link, podAddr(a.ip)); err != nil {
			return fmt.Errorf("adding address %s to %s: %w", a.ip, s.IfName, err)
		}
	}
	// A pod must reach its own address, which goes by lo; who made the namespace
	// may have left that down.
	for _, l := range []netlink.Link{&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1, Name: "lo"}}, link} {
		if err := netlink.LinkSetUp(l); err != nil {
			return fmt.Errorf("setting device %s up: %w", l.Attrs().Name, err)
		}
	}
	for _, a := range s.addrs() {
		if err := netlink.NeighSet(neighbour(link, a.gateway, s.HostMAC)); err != nil {
			return fmt.Errorf("setting the neighbour %s on %s: %w", a.gateway, s.IfName, err)
		}
		if err := netlink.RouteReplace(defaultRoute(link, a)); err != nil {
			return fmt.Errorf("setting the default route by %s on %s: %w", a.gateway, s.IfName, err)
		}
	}
	if !s.IPv6.IsValid() {
		return nil
	}
	return awaitLocal(s.IPv6)
}

// awaitLocal waits until the pod takes what is sent to its IPv6 address. The
// kernel makes the local route some time after the address, on a queue of its
// own; what comes before that is thrown away.
func awaitLocal(ip netip.Addr) error {
	timeout := time.After(localTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	want := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: hostNet(ip)}
	for {
		routes, err := Dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(netlink.FAMILY_V6, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		})
		if err != nil {
			return fmt.Errorf("listing the local routes: %w", err)
		}
		if len(routes) > 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-timeout:
			return fmt.Errorf("the kernel made no local route for %s within %s", ip, localTimeout)
		}
	}
}

// podSysctls: IPv6 on, even where the runtime turned it off by default; no
// detection of duplicates, which there cannot be and which would keep the pod
// waiting; no word from a router but ours. The link-local address must be the one
// made from the MAC (mode 0), as the programs on the device let no other pass.
func podSysctls(ifName string) error {
	for _, kv := range [][2]string{
		{"addr_gen_mode", "0"}, {"accept_dad", "0"}, {"accept_ra", "0"}, {"disable_ipv6", "0"},
	} {
		if err := setSysctl("ipv6", ifName, kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

func podAddr(ip netip.Addr) *netlink.Addr {
	a := &netlink.Addr{IPNet: hostNet(ip)}
	if ip.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func defaultRoute(link netlink.Link, a addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: anyNet(a.ip), Gw: a.gateway.AsSlice(),
		Flags: int(netlink.FLAG_ONLINK), Table: unix.RT_TABLE_MAIN, Family: a.family(),
	}
}

func neighbour(link netlink.Link, ip netip.Addr, mac model.MAC) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.IP(ip.AsSlice()), HardwareAddr: hw(mac),
	}
}

// RemovePod removes the pair by the pod's device, if it is ours by its MAC. A
// namespace or device that is gone is no error.
func RemovePod(netnsPath, ifName string, mac model.MAC) error {
	err := ns.WithNetNSPath(netnsPath, func(ns.NetNS) error {
		link, err := netlink.LinkByName(ifName)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking up device %s: %w", ifName, err)
		}
		if link.Type() != "veth" || link.Attrs().HardwareAddr.String() != hw(mac).String() {
			return nil
		}
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("removing device %s: %w", ifName, err)
		}
		return nil
	})
	var gone ns.NSPathNotExistErr
	var notNS ns.NSPathNotNSErr // a mount point that is left of a namespace
	if errors.As(err, &gone) || errors.As(err, &notNS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("in the pod: %w", err)
	}
	return nil
}
