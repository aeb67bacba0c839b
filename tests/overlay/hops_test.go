// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/weftmesh/weft/tests/sandbox"
)

func setMTU(name string, mtu int) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(dev, mtu)
}

// expires pings with so many hops left and tells who says that they were not enough.
func expires(ns *sandbox.NS, to netip.Addr, hops int) (netip.Addr, error) {
	network, local, proto := "ip4:icmp", "0.0.0.0", 1
	var request, exceeded icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeTimeExceeded
	if to.Is6() {
		network, local, proto = "ip6:ipv6-icmp", "::", 58
		request, exceeded = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeTimeExceeded
	}
	var conn *icmp.PacketConn
	if err := ns.Do(func() (err error) { conn, err = icmp.ListenPacket(network, local); return err }); err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	var err error
	if to.Is6() {
		err = conn.IPv6PacketConn().SetHopLimit(hops)
	} else {
		err = conn.IPv4PacketConn().SetTTL(hops)
	}
	if err != nil {
		return netip.Addr{}, err
	}
	msg, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: 77, Seq: hops, Data: []byte("weft")}}).Marshal(nil)
	if err != nil {
		return netip.Addr{}, err
	}
	if _, err := conn.WriteTo(msg, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return netip.Addr{}, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(soon)); err != nil {
		return netip.Addr{}, err
	}
	buf := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("nobody says so: %w", err)
		}
		got, err := icmp.ParseMessage(proto, buf[:n])
		if err == nil && got.Type == exceeded {
			from, _ := netip.AddrFromSlice(peer.(*net.IPAddr).IP)
			return from.Unmap(), nil
		}
	}
}
