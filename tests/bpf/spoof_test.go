// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	noEndpoint    = weftbpf.BpfWeftReasonWEFT_DROP_NO_ENDPOINT
	malformed     = weftbpf.BpfWeftReasonWEFT_DROP_MALFORMED
	unsupportedL3 = weftbpf.BpfWeftReasonWEFT_DROP_UNSUPPORTED_L3
	unsupportedL4 = weftbpf.BpfWeftReasonWEFT_DROP_UNSUPPORTED_L4
	spoofedMAC    = weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_MAC
	spoofedIPv4   = weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_IPV4
	spoofedIPv6   = weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_IPV6
	spoofedARP    = weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_ARP
	spoofedND     = weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_ND
	extHeaders    = weftbpf.BpfWeftReasonWEFT_DROP_EXT_HEADERS
	fragment      = weftbpf.BpfWeftReasonWEFT_DROP_FRAGMENT
	icmpNoFlow    = weftbpf.BpfWeftReasonWEFT_DROP_ICMP_NO_FLOW
	policyDeny    = weftbpf.BpfWeftReasonWEFT_DROP_POLICY_DENY
	policyDefault = weftbpf.BpfWeftReasonWEFT_DROP_POLICY_DEFAULT
	ctFull        = weftbpf.BpfWeftReasonWEFT_DROP_CT_FULL
	multicast     = weftbpf.BpfWeftReasonWEFT_DROP_MULTICAST
	redirect      = weftbpf.BpfWeftReasonWEFT_DROP_REDIRECT
)

func spoofed(f int) weftbpf.BpfWeftReason {
	if f == 4 {
		return spoofedIPv4
	}
	return spoofedIPv6
}

func TestDeviceWithoutEndpoint(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		n.dropped(noEndpoint, egress, func() uint32 {
			v, _, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.uplink}, sent(f, n.a, n.b, protoUDP, udp(1, 2)))
			return v
		})
		n.dropped(noEndpoint, ingress, func() uint32 {
			v, _, _ := n.run(n.objs.WeftToPod, skb{Ifindex: n.uplink}, got(f, n.far, n.b, protoUDP, udp(1, 2)))
			return v
		})
	}
	// A slot that has passed on to another device is not the old one's any more.
	n.put(n.objs.WeftIf, n.uplink, uint32(n.a.slot))
	n.dropped(noEndpoint, egress, func() uint32 {
		v, _, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.uplink}, sent(4, n.a, n.b, protoUDP, udp(1, 2)))
		return v
	})
}

func TestSourceAddressesMustBeOwn(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		frame := sent(f, n.a, n.b, protoUDP, udp(1, 2))
		frame[6] ^= 4
		n.dropped(spoofedMAC, egress, func() uint32 { return n.from(n.a, frame) })

		liar := *n.a
		liar.ip = n.c.ip
		n.dropped(spoofed(f), egress, func() uint32 { return n.from(n.a, sent(f, &liar, n.b, protoUDP, udp(1, 2))) })
		// A known flow of the one whose address it is makes no difference.
		n.open(f, n.c, n.b, 1000, 80)
		n.dropped(spoofed(f), egress, func() uint32 {
			return n.from(n.a, sent(f, &liar, n.b, protoTCP, tcp(1000, 80, ack)))
		})
	}
	// An endpoint without an address of the family sends none.
	n.a.row.Flags = 0
	n.update(n.a)
	for _, f := range families {
		n.dropped(spoofed(f), egress, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1, 2))) })
	}
}

func TestLinkLocalSourceIsForDiscoveryOnly(t *testing.T) {
	n := newNode(t)
	p := ip6(n.a.ll, n.b.ip[6], protoUDP, 64, udp(1, 2))
	n.dropped(spoofedIPv6, egress, func() uint32 { return n.from(n.a, eth(n.a.gw, n.a.mac, ethIPv6, p)) })
	p = ip6(netip.IPv6Unspecified(), n.b.ip[6], protoICMPv6, 64, icmp(128, 0, 1))
	n.dropped(spoofedIPv6, egress, func() uint32 { return n.from(n.a, eth(n.a.gw, n.a.mac, ethIPv6, p)) })
}

func TestMarkOfAPodIsCleared(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		for _, dst := range []*host{n.b, n.far} {
			_, _, out := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex, Mark: 0xf00}, sent(f, n.a, dst, protoUDP, udp(1, 2)))
			if out.Mark != 0 {
				t.Errorf("IPv%d: mark %#x survives", f, out.Mark)
			}
		}
	}
}

func TestARP(t *testing.T) {
	n := newNode(t)
	gw, zero := netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("0.0.0.0")
	all := mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	send := func(p []byte) func() uint32 {
		return func() uint32 { return n.from(n.a, eth(all, n.a.mac, ethARP, p)) }
	}
	n.passes(actOK, send(arp(1, n.a.mac, n.a.ip[4], gw)))
	n.passes(actOK, send(arp(2, n.a.mac, n.a.ip[4], gw)))
	n.passes(actOK, send(arp(1, n.a.mac, zero, n.a.ip[4]))) // a probe
	n.dropped(spoofedARP, egress, send(arp(2, n.a.mac, zero, n.a.ip[4])))
	n.dropped(spoofedARP, egress, send(arp(2, n.a.mac, n.b.ip[4], gw)))
	n.dropped(spoofedARP, egress, send(arp(1, n.b.mac, n.a.ip[4], gw)))
	bad := arp(1, n.a.mac, n.a.ip[4], gw)
	bad[4] = 8
	n.dropped(malformed, egress, send(bad))
	n.dropped(malformed, egress, send(bad[:20]))
	n.passes(actOK, func() uint32 { return n.to(n.a, 0, eth(n.a.mac, n.a.gw, ethARP, arp(1, n.a.gw, gw, n.a.ip[4]))) })
}

func TestNeighbourDiscovery(t *testing.T) {
	n := newNode(t)
	own, other, gw, none := n.a.ip[6], n.b.ip[6], netip.MustParseAddr("fe80::1:1"), netip.IPv6Unspecified()
	allNodes, m, wrong := netip.MustParseAddr("ff02::1"), &n.a.mac, &n.b.mac
	for _, tc := range []struct {
		name string
		src  netip.Addr
		msg  []byte
		hops uint8
		want weftbpf.BpfWeftReason
	}{
		{"solicitation", own, nd(135, gw, 1, m), 255, 0},
		{"solicitation from link-local", n.a.ll, nd(135, gw, 1, m), 255, 0},
		{"solicitation without option", own, nd(135, gw, 0, nil), 255, 0},
		{"solicitation with another's MAC", own, nd(135, gw, 1, wrong), 255, spoofedND},
		{"probe for own", none, nd(135, own, 0, nil), 255, 0},
		{"probe for own link-local", none, nd(135, n.a.ll, 0, nil), 255, 0},
		{"probe for another's", none, nd(135, other, 0, nil), 255, spoofedND},
		{"advertisement of own", own, nd(136, own, 2, m), 255, 0},
		{"advertisement of another's", own, nd(136, other, 2, m), 255, spoofedND},
		{"advertisement with another's MAC", own, nd(136, own, 2, wrong), 255, spoofedND},
		{"router solicitation", n.a.ll, nd(133, netip.Addr{}, 1, m), 255, 0},
		{"router advertisement", n.a.ll, nd(134, netip.Addr{}, 1, m), 255, spoofedND},
		{"redirect", n.a.ll, nd(137, gw, 2, m), 255, spoofedND},
		{"not from the link", own, nd(135, gw, 1, m), 64, spoofedND},
		{"from another's address", other, nd(135, gw, 1, m), 255, spoofedIPv6},
		{"endless option", own, concat(nd(135, gw, 0, nil), []byte{1, 0, 0, 0, 0, 0, 0, 0}), 255, malformed},
		{"too many options", own, concat(nd(135, gw, 1, m), nd(0, own, 0, nil)[8:], make([]byte, 0),
			[]byte{3, 1, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0}), 255, malformed},
		{"truncated", own, nd(135, gw, 0, nil)[:12], 255, malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			send := func() uint32 {
				return n.from(n.a, eth(mac{0x33, 0x33, 0, 0, 0, 1}, n.a.mac, ethIPv6,
					ip6(tc.src, allNodes, protoICMPv6, tc.hops, tc.msg)))
			}
			if tc.want == 0 {
				n.passes(actOK, send)
			} else {
				n.dropped(tc.want, egress, send)
			}
		})
	}
	p := ip6(gw, own, protoICMPv6, 255, nd(135, own, 1, &n.a.gw))
	n.passes(actOK, func() uint32 { return n.to(n.a, 0, eth(n.a.mac, n.a.gw, ethIPv6, p)) })
}

// The host would route what is not for the link.
func TestDiscoveryStaysOnTheLink(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		dst  string
		want weftbpf.BpfWeftReason
	}{
		{"fe80::1", 0}, {"ff02::1:ff00:1", 0}, {"ff12::1", 0},
		{"ff05::2", spoofedND}, {"ff0e::1", spoofedND}, {"fec0::1", spoofedND},
		{n.b.ip[6].String(), spoofedND}, {n.far.ip[6].String(), spoofedND},
	} {
		for _, msg := range [][]byte{nd(133, netip.Addr{}, 1, &n.a.mac), nd(135, n.b.ip[6], 1, &n.a.mac), nd(136, n.a.ip[6], 2, &n.a.mac)} {
			send := func() uint32 {
				return n.from(n.a, eth(n.a.gw, n.a.mac, ethIPv6,
					ip6(n.a.ip[6], netip.MustParseAddr(tc.dst), protoICMPv6, 255, msg)))
			}
			if tc.want == 0 {
				n.passes(actOK, send)
			} else {
				n.dropped(tc.want, egress, send)
			}
		}
	}
}
