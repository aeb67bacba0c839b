// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Create makes the pair, both ends down, the pod's one in the namespace at
// netnsPath from its first moment on. It answers the host-side device's index.
func Create(netnsPath string, s Spec) (uint32, error) {
	podNS, err := ns.GetNS(netnsPath)
	if err != nil {
		return 0, fmt.Errorf("opening the pod's network namespace: %w", err)
	}
	defer podNS.Close()
	// The kernel would say EEXIST for either end; tell which one it is.
	err = podNS.Do(func(ns.NetNS) error { return absent(s.IfName) })
	if err != nil {
		return 0, fmt.Errorf("in the pod: %w", err)
	}
	if err := absent(s.HostIfName); err != nil {
		return 0, fmt.Errorf("on the host: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = s.HostIfName, s.MTU, hw(s.HostMAC)
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr = s.IfName, hw(s.MAC)
	veth.PeerNamespace = netlink.NsFd(podNS.Fd())
	if err := netlink.LinkAdd(veth); err != nil {
		return 0, fmt.Errorf("creating the device pair %s and %s: %w", s.HostIfName, s.IfName, err)
	}
	link, err := netlink.LinkByName(s.HostIfName)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("looking up the new device %s: %w", s.HostIfName, err), RemoveHost(s.HostIfName))
	}
	return uint32(link.Attrs().Index), nil
}

func absent(name string) error {
	_, err := netlink.LinkByName(name)
	switch {
	case err == nil:
		return fmt.Errorf("a device %s exists already", name)
	case isNotFound(err):
		return nil
	}
	return fmt.Errorf("looking up device %s: %w", name, err)
}

// EnsureHost sets the host-side device up and gives it what it needs; what is
// there already stays. It is how the host's half is made, and how it is repaired.
func EnsureHost(s Spec) error {
	link, err := netlink.LinkByName(s.HostIfName)
	if err != nil {
		return fmt.Errorf("looking up device %s: %w", s.HostIfName, err)
	}
	if err := hostSysctls(s); err != nil {
		return err
	}
	if link.Attrs().Flags&unix.IFF_UP == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("setting device %s up: %w", s.HostIfName, err)
		}
	}
	for _, a := range s.addrs() {
		// A neighbour first: with a route and none, a packet from the host would
		// make the kernel ask for one.
		if err := netlink.NeighSet(neighbour(link, a.ip, s.MAC)); err != nil {
			return fmt.Errorf("setting the neighbour %s on %s: %w", a.ip, s.HostIfName, err)
		}
		if err := netlink.RouteReplace(hostRoute(link, a)); err != nil {
			return fmt.Errorf("setting the route to %s on %s: %w", a.ip, s.HostIfName, err)
		}
	}
	return nil
}

func hostRoute(link netlink.Link, a addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: hostNet(a.ip), Scope: netlink.SCOPE_LINK,
		Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN, Family: a.family(),
	}
}

// hostSysctls: the pod's device has no counterpart to ask or to answer, so the
// host-side one needs no address of its own and takes no advertisement. Reverse
// path filtering is off because the programs on the device check the source.
func hostSysctls(s Spec) error {
	if s.IPv4.IsValid() {
		if err := setSysctl("ipv4", s.HostIfName, "rp_filter", "0"); err != nil {
			return err
		}
		if err := setSysctl("ipv4", s.HostIfName, "forwarding", "1"); err != nil {
			return err
		}
	}
	if !s.IPv6.IsValid() {
		return nil
	}
	for _, kv := range [][2]string{
		{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}, {"forwarding", "1"},
	} {
		if err := setSysctl("ipv6", s.HostIfName, kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

// RemoveHost removes the pair by its host-side device; none is no error.
func RemoveHost(name string) error {
	link, err := netlink.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking up device %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing device %s: %w", name, err)
	}
	return nil
}
