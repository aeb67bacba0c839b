// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/tests/sandbox"
)

// The host has two wires to the world, which is namespaces that are no pods:
// world, and far, whose addresses are in other networks.
const (
	uplinkDevice = "up0" // to world

	hostV4  = "192.0.2.1"
	hostV6  = "2001:db8::1"
	worldV4 = "192.0.2.2"
	worldV6 = "2001:db8::2"
	farV4   = "192.0.3.2"
	farV6   = "2001:db8:0:1::2"
)

// hostAddrs, worldAddrs and farAddrs are by family, like addrs of a pod.
func hostAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(hostV4), netip.MustParseAddr(hostV6)}
}

func worldAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(worldV4), netip.MustParseAddr(worldV6)}
}

func farAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(farV4), netip.MustParseAddr(farV6)}
}

// uplink is one wire.
type uplink struct {
	name     string // of the namespace
	device   string // on the host
	host4    string
	host6    string
	outside4 string
	outside6 string
}

func worldUplink() uplink { return uplink{"world", uplinkDevice, hostV4, hostV6, worldV4, worldV6} }

func farUplink() uplink {
	return uplink{"far", "up1", "192.0.3.1", "2001:db8:0:1::1", farV4, farV6}
}

// wire connects the host to a namespace beyond it, which knows the way back.
func (u uplink) wire(t *testing.T) *sandbox.NS {
	t.Helper()
	world, err := sandbox.NewNS(u.name)
	ok(t, err)
	ok(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: u.device}, PeerName: "w0"}))
	ok(t, moveTo(world, "w0"))
	ok(t, setUp(u.device, u.host4+"/24", u.host6+"/64"))
	ok(t, world.Do(func() error {
		if err := setUp("w0", u.outside4+"/24", u.outside6+"/64"); err != nil {
			return err
		}
		for _, via := range []string{u.host4, u.host6} {
			if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(via), Dst: everywhere(via)}); err != nil {
				return fmt.Errorf("routing by %s: %w", via, err)
			}
		}
		return nil
	}))
	// The kernel takes its time to accept an IPv6 address as its own.
	ok(t, sandbox.Eventually(t.Context(), soon, "the wire to the world", func() error {
		return sandbox.Ping(sandbox.Host(), u.outside6, silence)
	}))
	return world
}

func (u uplink) unwire(ns *sandbox.NS) error {
	if link, err := netlink.LinkByName(u.device); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
	}
	return ns.Close()
}

func moveTo(ns *sandbox.NS, device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	fd, err := os.Open(ns.Path)
	if err != nil {
		return err
	}
	defer fd.Close()
	return netlink.LinkSetNsFd(link, int(fd.Fd()))
}

// setUp gives a device of the present namespace addresses and sets it up.
func setUp(device string, addresses ...string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = 0x02 // IFA_F_NODAD: an address is good at once
		if addr.IP.To4() != nil {
			addr.Flags = 0
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("adding %s to %s: %w", a, device, err)
		}
	}
	return netlink.LinkSetUp(link)
}

func everywhere(via string) *net.IPNet {
	if ip := net.ParseIP(via); ip.To4() != nil {
		return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}
