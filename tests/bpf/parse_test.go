// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

func TestFrames(t *testing.T) {
	n := newNode(t)
	a4, b4, a6, b6 := n.a.ip[4], n.b.ip[4], n.a.ip[6], n.b.ip[6]
	edit := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	good4 := func() []byte { return ip4(a4, b4, protoUDP, udp(1, 2), ip4Opt{}) }
	good6 := func() []byte { return ip6(a6, b6, protoUDP, 64, udp(1, 2)) }
	group4, group6 := netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("ff02::fb")
	ext6 := func(next uint8, parts ...[]byte) []byte { return ip6(a6, b6, next, 64, concat(parts...)) }
	const hbh, routing, fragHdr, ah, dst = 0, 43, 44, 51, 60
	for _, tc := range []struct {
		name   string
		proto  uint16
		packet []byte
		want   weftbpf.BpfWeftReason
	}{
		{"IPv4", ethIPv4, good4(), 0},
		{"IPv4 with options", ethIPv4, ip4(a4, b4, protoTCP, tcp(1, 2, syn), ip4Opt{options: make([]byte, 8)}), 0},
		{"IPv4 with a trailer", ethIPv4, append(good4(), 0, 0, 0), 0},
		{"IPv4 cut", ethIPv4, good4()[:26], malformed},
		{"IPv4 wrong version", ethIPv4, edit(good4(), 0, 0x65), malformed},
		{"IPv4 header of 16 bytes", ethIPv4, edit(good4(), 0, 0x44), malformed},
		{"IPv4 header over the end", ethIPv4, edit(good4(), 0, 0x4f), malformed},
		{"IPv4 total below header", ethIPv4, edit(good4(), 3, 10), malformed},
		{"IPv4 UDP cut", ethIPv4, ip4(a4, b4, protoUDP, udp(1, 2)[:7], ip4Opt{}), malformed},
		{"IPv4 TCP cut", ethIPv4, ip4(a4, b4, protoTCP, tcp(1, 2, syn)[:19], ip4Opt{}), malformed},
		{"IPv4 TCP header too small", ethIPv4, ip4(a4, b4, protoTCP, edit(tcp(1, 2, syn), 12, 0x40), ip4Opt{}), malformed},
		{"IPv4 TCP header over the end", ethIPv4, ip4(a4, b4, protoTCP, edit(tcp(1, 2, syn), 12, 0x60), ip4Opt{}), malformed},
		{"IPv4 SCTP", ethIPv4, ip4(a4, b4, protoSCTP, sctp(1, 2), ip4Opt{}), 0},
		{"IPv4 GRE", ethIPv4, ip4(a4, b4, 47, nil, ip4Opt{}), 0},
		{"ICMPv6 over IPv4", ethIPv4, ip4(a4, b4, protoICMPv6, icmp(128, 0, 1), ip4Opt{}), unsupportedL4},
		{"ICMP redirect", ethIPv4, ip4(a4, b4, protoICMP, icmp(5, 0, 1), ip4Opt{}), unsupportedL4},
		{"ICMP router advertisement", ethIPv4, ip4(a4, b4, protoICMP, icmp(9, 0, 1), ip4Opt{}), unsupportedL4},
		{"IGMP", ethIPv4, ip4(a4, group4, 2, make([]byte, 8), ip4Opt{}), multicast},
		{"IPv4 multicast", ethIPv4, ip4(a4, group4, protoUDP, udp(1, 2), ip4Opt{}), multicast},
		{"IPv4 broadcast", ethIPv4, ip4(a4, netip.MustParseAddr("255.255.255.255"), protoUDP, udp(1, 2), ip4Opt{}), multicast},

		{"IPv6", ethIPv6, good6(), 0},
		{"IPv6 cut", ethIPv6, good6()[:46], malformed},
		{"IPv6 wrong version", ethIPv6, edit(good6(), 0, 0x40), malformed},
		{"IPv6 TCP cut", ethIPv6, ip6(a6, b6, protoTCP, 64, tcp(1, 2, syn)[:12]), malformed},
		{"IPv6 multicast", ethIPv6, ip6(a6, group6, protoUDP, 64, udp(1, 2)), multicast},
		{"IPv6 group report", ethIPv6, ip6(n.a.ll, group6, hbh, 1, concat(ext(protoICMPv6, 5, 2), icmp(143, 0, 0))), multicast},
		{"ICMP over IPv6", ethIPv6, ip6(a6, b6, protoICMP, 64, icmp(8, 0, 1)), unsupportedL4},
		{"IPv6 no next header", ethIPv6, ip6(a6, b6, 59, 64, nil), unsupportedL4},
		{"IPv6 router renumbering", ethIPv6, ip6(a6, b6, protoICMPv6, 64, icmp(138, 0, 1)), unsupportedL4},
		{"IPv6 ESP", ethIPv6, ip6(a6, b6, 50, 64, make([]byte, 16)), 0},

		{"hop-by-hop, destination options", ethIPv6, ext6(hbh, ext(dst), ext(protoUDP), udp(1, 2)), 0},
		{"authentication header", ethIPv6, ext6(ah, edit(concat(ext(protoTCP), make([]byte, 8)), 1, 2), tcp(1, 2, syn)), 0},
		{"routing header done with", ethIPv6, ext6(routing, ext(protoUDP, 2, 0), udp(1, 2)), 0},
		{"routing header type 0", ethIPv6, ext6(routing, ext(protoUDP, 0, 0), udp(1, 2)), extHeaders},
		{"routing header to elsewhere", ethIPv6, ext6(routing, ext(protoUDP, 4, 1), udp(1, 2)), extHeaders},
		{"hop-by-hop not first", ethIPv6, ext6(dst, ext(hbh), ext(protoUDP), udp(1, 2)), extHeaders},
		{"six extension headers", ethIPv6, ext6(dst, ext(dst), ext(dst), ext(dst), ext(dst), ext(dst), ext(protoUDP), udp(1, 2)), 0},
		{"seven extension headers", ethIPv6, ext6(dst, ext(dst), ext(dst), ext(dst), ext(dst), ext(dst), ext(dst), ext(protoUDP), udp(1, 2)), extHeaders},
		{"extension header cut", ethIPv6, ext6(dst, []byte{protoUDP, 0, 0, 0}), malformed},
		{"extension header over the end", ethIPv6, ext6(dst, edit(ext(protoUDP), 1, 9), udp(1, 2)), malformed},
		{"extension header after a fragment's", ethIPv6, ext6(fragHdr, frag6(dst, 0, true, 1), ext(protoUDP), udp(1, 2)), extHeaders},
		{"fragment that is whole", ethIPv6, ext6(fragHdr, frag6(protoUDP, 0, false, 1), udp(1, 2)), 0},

		{"LLC", 0x0026, make([]byte, 60), unsupportedL3},
		{"VLAN in the frame", 0x8100, concat([]byte{0, 1, 8, 0}, good4()), unsupportedL3},
		{"MPLS", 0x8847, make([]byte, 60), unsupportedL3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := n.in(t)
			// In one frame the tails must not be made up of leftovers of another.
			frame := bytes.Clone(eth(n.a.gw, n.a.mac, tc.proto, tc.packet))
			send := func() uint32 { return n.from(n.a, frame) }
			if tc.want == 0 {
				n.passes(actRedirect, send)
			} else {
				n.dropped(tc.want, egress, send)
			}
		})
	}
}

func TestGroupFrames(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		frame := sent(f, n.a, n.b, protoUDP, udp(1, 2))
		frame[0] |= 1
		n.dropped(multicast, egress, func() uint32 { return n.from(n.a, frame) })
		if e := n.event(); e.Reason != uint8(multicast) {
			t.Errorf("event %+v", e)
		}
		// What the host itself sends to groups is counted, but not worth an event.
		in := got(f, n.self, n.b, protoUDP, udp(1, 2))
		in[0] |= 1
		n.dropped(multicast, ingress, func() uint32 { return n.to(n.b, 0, in) })
		n.silent()
	}
}

func TestFragments(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		piece := func(id uint32, first bool, proto uint8, l4 []byte) func() uint32 {
			var p []byte
			if f == 4 {
				o := ip4Opt{id: uint16(id), frag: 0x2000}
				if !first {
					o.frag = 100
				}
				p = ip4(n.a.ip[4], n.b.ip[4], proto, l4, o)
			} else {
				offset := uint16(0)
				if !first {
					offset = 100
				}
				p = ip6(n.a.ip[6], n.b.ip[6], 44, 64, concat(frag6(proto, offset, first, id), l4))
			}
			return func() uint32 { return n.from(n.a, eth(n.a.gw, n.a.mac, etherType(f), p)) }
		}
		body := make([]byte, 32)
		n.dropped(fragment, egress, piece(1, false, protoUDP, body))
		n.passes(actRedirect, piece(1, true, protoUDP, udp(1000, 53, body...)))
		n.passes(actRedirect, piece(1, false, protoUDP, body))
		n.dropped(fragment, egress, piece(2, false, protoUDP, body))
		if ct, _ := n.flow(f, n.a, n.b, 1000, 53, protoUDP); ct == nil || ct.Packets[0] != 2 {
			t.Errorf("IPv%d: fragments not counted to their flow: %+v", f, ct)
		}
		proto, request, _ := echo(f)
		n.passes(actRedirect, piece(3, true, proto, icmp(request, 0, 7, body...)))
		n.passes(actRedirect, piece(3, false, proto, body))
		// A first fragment that was refused opens nothing.
		n.policy(n.b)
		n.dropped(policyDefault, ingress, piece(4, true, protoUDP, udp(1000, 54, body...)))
		n.dropped(fragment, egress, piece(4, false, protoUDP, body))
		// A later fragment must not reach into the TCP header.
		var p []byte
		if f == 4 {
			p = ip4(n.a.ip[4], n.b.ip[4], protoTCP, body, ip4Opt{id: 9, frag: 1})
		} else {
			p = ip6(n.a.ip[6], n.b.ip[6], 44, 64, concat(frag6(protoTCP, 1, false, 9), body))
		}
		n.dropped(malformed, egress, func() uint32 { return n.from(n.a, eth(n.a.gw, n.a.mac, etherType(f), p)) })
	}
}

func TestICMPErrors(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		proto, request, reply := echo(f)
		unreachable := map[int]uint8{4: 3, 6: 1}[f]
		// quote is an error from one to another about a packet.
		quote := func(from, to *host, quoted []byte) []byte {
			return sent(f, from, to, proto, icmp(unreachable, 1, 0, quoted...))
		}
		inner := packet(f, n.a.ip[f], n.b.ip[f], protoUDP, udp(1000, 53))
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner)) })
		n.policy(n.a, entry{peer: n.b.identity, action: allow}) // isolated: only what belongs to flows comes in
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1000, 53))) })
		n.passes(actRedirect, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner)) })
		// Policy that moved since counts for errors too, until the flow is decided again.
		n.update(n.a)
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner)) })
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1000, 53))) })
		n.passes(actRedirect, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner)) })
		// About another flow, to another than the sender, from one that was not its receiver.
		other := packet(f, n.a.ip[f], n.b.ip[f], protoUDP, udp(1000, 54))
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.a, other)) })
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.c, inner)) })
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.c, quote(n.c, n.a, inner)) })
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner[:18])) })
		n.dropped(icmpNoFlow, egress, func() uint32 { return n.from(n.b, quote(n.b, n.a, inner[:len(inner)-6])) })

		// From outside any router may tell of a flow to the world, and of no other.
		n.policy(n.a, entry{action: allow})
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoTCP, tcp(1000, 80, syn))) })
		router := &host{ip: addrs("9.9.9.9", "2001:db8::9"), mac: n.far.mac}
		out := packet(f, n.a.ip[f], n.far.ip[f], protoTCP, tcp(1000, 80, syn))
		n.passes(actOK, func() uint32 {
			return n.to(n.a, n.uplink, got(f, router, n.a, proto, icmp(unreachable, 1, 0, out...)))
		})
		n.dropped(icmpNoFlow, ingress, func() uint32 {
			return n.to(n.a, n.uplink, got(f, router, n.a, proto, icmp(unreachable, 1, 0, other...)))
		})
		// A query's error.
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, proto, icmp(request, 0, 5))) })
		out = packet(f, n.a.ip[f], n.far.ip[f], proto, icmp(request, 0, 5))
		n.passes(actOK, func() uint32 {
			return n.to(n.a, n.uplink, got(f, router, n.a, proto, icmp(unreachable, 1, 0, out...)))
		})
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, proto, icmp(reply, 0, 5))) })
	}
}
