// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// attack is one frame, or a few, that must come out nowhere.
type attack struct {
	name   string
	reason agentv1.DropReason
	frames [][]byte
}

// signature is what of a frame is the same wherever it comes out: all from the
// middle of the network header on, for routers change only what is before.
func signature(frame []byte) []byte { return frame[26:] }

// run sends the attack and reports whatever is not as it must be.
func (w *watch) run(a attack) {
	w.t.Helper()
	before := w.drops(a.reason)
	var signatures [][]byte
	for _, f := range a.frames {
		ok(w.t, w.raw.Send(f))
		signatures = append(signatures, signature(f))
	}
	if err := w.counted(a.reason, before, uint64(len(a.frames))); err != nil {
		w.t.Errorf("%s: %v", a.name, err)
	}
	if seen := w.beacon(signatures); len(seen) > 0 {
		w.t.Errorf("%s: came out at %v", a.name, seen)
	}
}

// neighbours are what the host has learned on the devices of pods, as text.
func neighbours(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	ok(t, err)
	pods := make(map[int]bool)
	for _, l := range links {
		pods[l.Attrs().Index] = strings.HasPrefix(l.Attrs().Name, "wf")
	}
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.NeighList(0, family)
		ok(t, err)
		for _, n := range list {
			// Groups come and go with the host's own reports.
			if pods[n.LinkIndex] && !n.IP.IsMulticast() {
				out = append(out, fmt.Sprintf("%d %s %s %x", n.LinkIndex, n.IP, n.HardwareAddr, n.State))
			}
		}
	}
	slices.Sort(out)
	return out
}

// targets are where a forged packet would like to go.
func (w *watch) targets(family int) []netip.Addr {
	return []netip.Addr{addrs(w.victim)[family], hostAddrs()[family], worldAddrs()[family]}
}

// forged are addresses that are not the attacker's.
func (w *watch) forged(family int) []netip.Addr {
	if family == 0 {
		return []netip.Addr{w.victim.IPv4, hostAddrs()[0], worldAddrs()[0], w.attacker.IPv4.Next().Next().Next(),
			netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0"),
			netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1")}
	}
	return []netip.Addr{w.victim.IPv6, hostAddrs()[1], worldAddrs()[1], w.attacker.IPv6.Next().Next().Next(),
		netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::dead"), netip.MustParseAddr("::1"),
		netip.MustParseAddr("::"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("ff02::1")}
}

func TestForgedSourceGoesNowhere(t *testing.T) {
	w := startWatch(t)
	reasons := []agentv1.DropReason{agentv1.DropReason_DROP_REASON_SPOOFED_IPV4, agentv1.DropReason_DROP_REASON_SPOOFED_IPV6}
	for family, reason := range reasons {
		for i, src := range w.forged(family) {
			a := attack{name: "source " + src.String(), reason: reason}
			for j, dst := range w.targets(family) {
				from, to := netip.AddrPortFrom(src, 4000), netip.AddrPortFrom(dst, beaconPort)
				a.frames = append(a.frames,
					w.frame(datagram{src: src, dst: dst, proto: protoUDP, body: udpTo(from, to, fmt.Sprintf("forged-%d-%d", i, j))}),
					w.frame(datagram{src: src, dst: dst, proto: protoTCP, body: tcpTo(from, to, tcpSYN, uint32(i), 0, "")}),
					w.frame(datagram{src: src, dst: dst, proto: icmpProto(src), body: echoRequest(src, dst, uint16(i))}))
			}
			w.run(a)
		}
		if err := w.shown(w.attacker, reason); err != nil {
			t.Error(err)
		}
	}
}

func echoRequest(src, dst netip.Addr, id uint16) []byte {
	kind := byte(8)
	if !src.Is4() {
		kind = 128
	}
	return icmpOf(src, dst, kind, 0, uint32(id)<<16|1, []byte("weft echo"))
}

// plain is a packet that is good but for what the attack does to it.
func (w *watch) plain(family int, text string) datagram {
	src, dst := addrs(w.attacker)[family], addrs(w.victim)[family]
	return datagram{src: src, dst: dst, proto: protoUDP,
		body: udpTo(netip.AddrPortFrom(src, 4001), netip.AddrPortFrom(dst, beaconPort), text)}
}

func TestForgedMACGoesNowhere(t *testing.T) {
	w := startWatch(t)
	victim, err := net.ParseMAC(w.taps["victim"].MAC.String())
	ok(t, err)
	before := neighbours(t)
	for _, mac := range []net.HardwareAddr{victim, w.gateway, {2, 0, 0, 0, 0, 9}, {0, 0, 0, 0, 0, 0}, {255, 255, 255, 255, 255, 255}} {
		a := attack{name: "MAC " + mac.String(), reason: agentv1.DropReason_DROP_REASON_SPOOFED_MAC}
		for family := range 2 {
			d := w.plain(family, "forged mac "+mac.String())
			a.frames = append(a.frames, ether(w.gateway, mac, d.etherType(), d.bytes()))
		}
		a.frames = append(a.frames, ether(w.gateway, mac, etherARP,
			arpOf(1, mac, w.attacker.IPv4, make(net.HardwareAddr, 6), netip.MustParseAddr("169.254.1.1"))))
		w.run(a)
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_SPOOFED_MAC); err != nil {
		t.Error(err)
	}
	if after := neighbours(t); !slices.Equal(before, after) {
		t.Errorf("neighbours of the host: %v, before %v", after, before)
	}
}

func TestForgedARPGoesNowhere(t *testing.T) {
	w := startWatch(t)
	var (
		own, victim, gateway = w.raw.MAC, w.taps["victim"].MAC, w.gateway
		ip, other            = w.attacker.IPv4, w.victim.IPv4
		router               = netip.MustParseAddr("169.254.1.1")
		zero                 = netip.MustParseAddr("0.0.0.0")
		all                  = net.HardwareAddr{255, 255, 255, 255, 255, 255}
		none                 = make(net.HardwareAddr, 6)
	)
	before := neighbours(t)
	for name, arp := range map[string][]byte{
		"request with another's address":     arpOf(1, own, other, none, router),
		"request with the gateway's address": arpOf(1, own, router, none, router),
		"request with the host's address":    arpOf(1, own, hostAddrs()[0], none, router),
		"request with another's MAC":         arpOf(1, victim, ip, none, router),
		"reply for another's address":        arpOf(2, own, other, gateway, router),
		"reply for the gateway":              arpOf(2, own, router, gateway, other),
		"reply with another's MAC":           arpOf(2, victim, ip, gateway, router),
		"gratuitous request":                 arpOf(1, own, other, none, other),
		"gratuitous reply":                   arpOf(2, own, other, all, other),
		"reply from nobody":                  arpOf(2, own, zero, gateway, router),
		"probe with another's MAC":           arpOf(1, victim, zero, none, other),
	} {
		w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_SPOOFED_ARP,
			frames: [][]byte{ether(all, own, etherARP, arp), ether(gateway, own, etherARP, arp), ether(victim, own, etherARP, arp)}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_SPOOFED_ARP); err != nil {
		t.Error(err)
	}
	// A probe claims nothing, but must not pass to anybody either.
	probe := ether(all, own, etherARP, arpOf(1, own, zero, none, other))
	ok(t, w.raw.Send(probe))
	if seen := w.beacon([][]byte{signature(probe)}); len(seen) > 0 {
		t.Errorf("a probe came out at %v", seen)
	}
	if after := neighbours(t); !slices.Equal(before, after) {
		t.Errorf("neighbours of the host: %v, before %v", after, before)
	}
}

func TestForgedDiscoveryGoesNowhere(t *testing.T) {
	w := startWatch(t)
	var (
		own, victim = w.raw.MAC, w.taps["victim"].MAC
		ip, other   = w.attacker.IPv6, w.victim.IPv6
		router      = netip.MustParseAddr("fe80::1")
		nodes       = netip.MustParseAddr("ff02::1")
		unspecified = netip.IPv6Unspecified()
		mine        = linkLocal(own)
		none        = make([]byte, 12)
		override    = uint32(1<<29 | 1<<30)
	)
	ok6 := ip.AsSlice()
	lifetime := binary.BigEndian.AppendUint64(nil, 0)
	before := neighbours(t)
	for name, d := range map[string]datagram{
		"solicitation with another's MAC":       neighbour(ip, router, 135, 0, router.AsSlice(), 1, victim),
		"probe for another's address":           neighbour(unspecified, nodes, 135, 0, other.AsSlice(), 1, own),
		"advertisement of another's address":    neighbour(ip, nodes, 136, override, other.AsSlice(), 2, own),
		"advertisement of the gateway":          neighbour(mine, nodes, 136, override, router.AsSlice(), 2, own),
		"advertisement of the host":             neighbour(ip, router, 136, override, hostAddrs()[1].AsSlice(), 2, own),
		"advertisement with another's MAC":      neighbour(ip, router, 136, override, ok6, 2, victim),
		"advertisement with a second option":    withOption(neighbour(ip, router, 136, override, ok6, 2, own), victim),
		"router advertisement":                  neighbour(mine, nodes, 134, 0xffff0708, lifetime, 1, own),
		"redirect":                              neighbour(mine, other, 137, 0, append(router.AsSlice(), other.AsSlice()...), 2, own),
		"router solicitation, another's MAC":    neighbour(mine, nodes, 133, 0, nil, 1, victim),
		"advertisement that came by a router":   hops(neighbour(ip, router, 136, override, ok6, 2, own), 64),
		"advertisement without its own options": neighbour(ip, router, 136, override, append(ok6, none[:8]...), 2, victim),
	} {
		reason := agentv1.DropReason_DROP_REASON_SPOOFED_ND
		if name == "advertisement without its own options" {
			reason = agentv1.DropReason_DROP_REASON_MALFORMED // an option of length 0
		}
		w.run(attack{name: name, reason: reason, frames: [][]byte{w.frame(d), ether(victim, own, etherIPv6, d.bytes())}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_SPOOFED_ND); err != nil {
		t.Error(err)
	}
	for name, src := range map[string]netip.Addr{"gateway": router, "other": other, "strange": netip.MustParseAddr("fe80::9")} {
		d := neighbour(src, nodes, 136, override, src.AsSlice(), 2, own)
		w.run(attack{name: "advertisement from " + name, reason: agentv1.DropReason_DROP_REASON_SPOOFED_IPV6, frames: [][]byte{w.frame(d)}})
	}
	if after := neighbours(t); !slices.Equal(before, after) {
		t.Errorf("neighbours of the host: %v, before %v", after, before)
	}
}

// linkLocal is the address that a device makes of its MAC.
func linkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func hops(d datagram, ttl byte) datagram {
	d.ttl = ttl
	return d
}

// withOption is a discovery message with a target address option more.
func withOption(d datagram, mac net.HardwareAddr) datagram {
	payload := append(slices.Clone(d.body[8:]), append([]byte{2, 1}, mac...)...)
	d.body = icmpOf(d.src, d.dst, d.body[0], d.body[1], binary.BigEndian.Uint32(d.body[4:]), payload)
	return d
}
