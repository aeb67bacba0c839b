// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/podnet"
)

// What tests do to a network behind the plugin's back, in the namespace of the
// calling thread.

// change finds a device and does something to it.
func change(dev string, f func(netlink.Link) error) error {
	link, err := netlink.LinkByName(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("changing device %s: %w", dev, err)
	}
	return nil
}

func addVeth(name, peer string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName = peer
	return netlink.LinkAdd(veth)
}

func delLink(dev string) error { return change(dev, netlink.LinkDel) }

func setDown(dev string) error { return change(dev, netlink.LinkSetDown) }

func setMTU(dev string, mtu int) error {
	return change(dev, func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) })
}

func rename(dev, to string) error {
	return change(dev, func(l netlink.Link) error { return netlink.LinkSetName(l, to) })
}

func addAddr(dev, cidr string) error {
	return change(dev, func(l netlink.Link) error {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		return netlink.AddrAdd(l, a)
	})
}

func delAddr(dev, cidr string) error {
	return change(dev, func(l netlink.Link) error {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		return netlink.AddrDel(l, a)
	})
}

// flushRoutes removes a device's routes of a family that were not made by the
// kernel.
func flushRoutes(dev string, family int) error {
	return change(dev, func(l netlink.Link) error {
		routes, err := podnet.Dump(func() ([]netlink.Route, error) { return netlink.RouteList(l, family) })
		for _, r := range routes {
			if err == nil && r.Protocol != unix.RTPROT_KERNEL {
				err = netlink.RouteDel(&r)
			}
		}
		return err
	})
}

// flushNeighbours removes a device's permanent neighbours of a family.
func flushNeighbours(dev string, family int) error {
	return change(dev, func(l netlink.Link) error {
		list, err := podnet.Dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(l.Attrs().Index, family) })
		for _, n := range list {
			if err == nil && n.State&netlink.NUD_PERMANENT != 0 {
				err = netlink.NeighDel(&n)
			}
		}
		return err
	})
}
