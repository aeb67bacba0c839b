// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// Check compares both halves with what they should be and reports everything
// that differs. What others added is not looked at.
func Check(netnsPath string, s Spec) error {
	host := checkHalf(half{dev: s.HostIfName, mac: s.HostMAC, peerMAC: s.MAC, mtu: s.MTU}, s.addrs(), false)
	pod := ns.WithNetNSPath(netnsPath, func(ns.NetNS) error {
		return checkHalf(half{dev: s.IfName, mac: s.MAC, peerMAC: s.HostMAC, mtu: s.MTU}, s.addrs(), true)
	})
	if host != nil {
		host = fmt.Errorf("on the host: %w", host)
	}
	if pod != nil {
		pod = fmt.Errorf("in the pod: %w", pod)
	}
	return errors.Join(host, pod)
}

type half struct {
	dev          string
	mac, peerMAC model.MAC
	mtu          int
}

func checkHalf(h half, addrs []addr, inPod bool) error {
	link, err := netlink.LinkByName(h.dev)
	if isNotFound(err) {
		return fmt.Errorf("device %s is missing", h.dev)
	}
	if err != nil {
		return fmt.Errorf("looking up device %s: %w", h.dev, err)
	}
	errs := []error{checkDevice(link, h)}
	for _, a := range addrs {
		route, neigh := hostRoute(link, a), a.ip
		if inPod {
			errs = append(errs, checkAddr(link, a))
			route, neigh = defaultRoute(link, a), a.gateway
		}
		errs = append(errs, checkRoute(link, a, route), checkNeighbour(link, a, neigh, h.peerMAC))
	}
	return errors.Join(errs...)
}

func checkDevice(link netlink.Link, h half) error {
	at := link.Attrs()
	switch {
	case link.Type() != "veth":
		return fmt.Errorf("device %s is a %s, not a veth", h.dev, link.Type())
	case at.Flags&unix.IFF_UP == 0:
		return fmt.Errorf("device %s is down", h.dev)
	case at.HardwareAddr.String() != hw(h.mac).String():
		return fmt.Errorf("device %s has MAC %s, not %s", h.dev, at.HardwareAddr, hw(h.mac))
	case at.MTU != h.mtu:
		return fmt.Errorf("device %s has MTU %d, not %d", h.dev, at.MTU, h.mtu)
	}
	return nil
}

func checkAddr(link netlink.Link, a addr) error {
	list, err := Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, a.family()) })
	if err != nil {
		return fmt.Errorf("listing addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, have := range list {
		if ip, ok := netip.AddrFromSlice(have.IP); ok && ip.Unmap() == a.ip {
			return nil
		}
	}
	return fmt.Errorf("device %s lacks address %s", link.Attrs().Name, a.ip)
}

func checkRoute(link netlink.Link, a addr, want *netlink.Route) error {
	list, err := Dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(a.family(), want, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("listing routes of %s: %w", link.Attrs().Name, err)
	}
	for _, have := range list {
		if want.Gw == nil || have.Gw.Equal(want.Gw) {
			return nil
		}
	}
	return fmt.Errorf("device %s lacks the route to %s", link.Attrs().Name, want.Dst)
}

func checkNeighbour(link netlink.Link, a addr, ip netip.Addr, mac model.MAC) error {
	list, err := Dump(func() ([]netlink.Neigh, error) {
		return netlink.NeighList(link.Attrs().Index, a.family())
	})
	if err != nil {
		return fmt.Errorf("listing neighbours of %s: %w", link.Attrs().Name, err)
	}
	for _, have := range list {
		got, ok := netip.AddrFromSlice(have.IP)
		if ok && got.Unmap() == ip && have.State&netlink.NUD_PERMANENT != 0 && have.HardwareAddr.String() == hw(mac).String() {
			return nil
		}
	}
	return fmt.Errorf("device %s lacks the permanent neighbour %s", link.Attrs().Name, ip)
}
