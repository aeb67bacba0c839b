// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	tunnelPeer   = weftbpf.BpfWeftReasonWEFT_DROP_TUNNEL_PEER
	tunnelTarget = weftbpf.BpfWeftReasonWEFT_DROP_TUNNEL_TARGET
	tunnelPort   = weftbpf.BpfWeftReasonWEFT_DROP_TUNNEL_PORT
	barePod      = weftbpf.BpfWeftReasonWEFT_DROP_BARE_POD

	proxyNotReady = weftbpf.BpfWeftReasonWEFT_DROP_PROXY_NOT_READY
	needsProxy    = weftbpf.BpfWeftReasonWEFT_DROP_NEEDS_PROXY
	proxyClash    = weftbpf.BpfWeftReasonWEFT_DROP_PROXY_CLASH

	vxlanPort  = 4789
	markTunnel = 0x100
)

// tunneled is a node with a tunnel to one other node, which has a pod. What comes out
// of the tunnel needs what the device alone can give: see tests/overlay.
type tunneled struct {
	*node
	dev   uint32
	other *host // the other node
	pod   *host // of the other node
}

const otherNode = 3

func newTunneled(t testing.TB) *tunneled {
	t.Helper()
	n := newUplink(t, func(c *weftbpf.BpfWeftConfig) { c.TunnelPort = vxlanPort })
	w := &tunneled{node: n, dev: device(t, "vx0"),
		other: &host{identity: 2, mac: n.far.mac, ip: addrs("192.168.7.3", "fd07::3")},
		pod:   &host{identity: 1300, ip: addrs("10.3.0.1", "fd00:3::1")}}
	for _, ip := range w.pod.ip {
		n.behind(netip.PrefixFrom(ip, ip.BitLen()), w.pod.identity)
	}
	for _, ip := range w.other.ip {
		n.behind(netip.PrefixFrom(ip, ip.BitLen()), w.other.identity)
	}
	n.behind(netip.MustParsePrefix("10.3.0.0/24"), 9)
	n.behind(netip.MustParsePrefix("fd00:3::/64"), 9)
	n.put(n.objs.WeftNode, uint32(0), weftbpf.BpfWeftNodeRow{Used: 1})
	n.put(n.objs.WeftNode, uint32(otherNode), weftbpf.BpfWeftNodeRow{Used: 1, Family: 4, Outer: addr16(w.other.ip[4])})
	for _, ip := range w.other.ip {
		n.put(n.objs.WeftOuter, weftbpf.BpfWeftOuterKey{Addr: addr16(ip)}, uint32(otherNode))
	}
	n.put(n.objs.WeftTunnel, uint32(0), weftbpf.BpfWeftTunnelRow{Ifindex: w.dev, Mtu: 1450})
	return w
}

// behind tells of addresses behind the tunnel.
func (n *node) behind(p netip.Prefix, identity uint32) {
	n.Helper()
	row := weftbpf.BpfWeftIp{Identity: identity, Node: otherNode}
	if p.Addr().Is4() {
		n.put(n.objs.WeftIp4, weftbpf.BpfWeftIp4Key{Prefixlen: uint32(p.Bits()), Addr: wire32(p.Addr())}, row)
		return
	}
	n.put(n.objs.WeftIp6, weftbpf.BpfWeftIp6Key{Prefixlen: uint32(p.Bits()), Addr: p.Addr().As16()}, row)
}

// outer is a frame that comes in by the uplink for the tunnel.
func (w *tunneled) outer(f int, src netip.Addr, l4 []byte) []byte {
	return w.wire(f, packet(f, src, w.self.ip[f], protoUDP, l4))
}

func (w *tunneled) arrives(frame []byte) (verdict, mark uint32) {
	w.Helper()
	v, _, ctx := w.run(w.objs.WeftFromNet, skb{Ifindex: w.uplink, IngressIfindex: w.uplink}, frame)
	return v, ctx.Mark
}

func TestFramesOfNodesAreMarkedAtTheUplink(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		inner := udp(50000, vxlanPort, make([]byte, 60)...)
		if v, mark := w.arrives(w.outer(f, w.other.ip[f], inner)); v != asIs || mark != markTunnel {
			t.Errorf("IPv%d: a frame of a node: verdict %d, mark %#x", f, v, mark)
		}
		if v, mark := w.arrives(w.outer(f, w.other.ip[f], udp(50000, 53))); v != asIs || mark != 0 {
			t.Errorf("IPv%d: a node's other datagram: verdict %d, mark %#x", f, v, mark)
		}
		w.dropped(tunnelPeer, ingress, func() uint32 { v, _ := w.arrives(w.outer(f, w.far.ip[f], inner)); return v })
		forwarded := w.wire(f, packet(f, w.other.ip[f], w.far.ip[f], protoUDP, inner))
		if v, mark := w.arrives(forwarded); v != asIs || mark != 0 {
			t.Errorf("IPv%d: a frame for somebody else: verdict %d, mark %#x", f, v, mark)
		}
	}
}

// The stack would give the mark of a frame's first fragment to the whole.
func TestFramesInFragmentsAreNotBelieved(t *testing.T) {
	w := newTunneled(t)
	inner := udp(50000, vxlanPort, make([]byte, 56)...)
	first := w.wire(4, ip4(w.other.ip[4], w.self.ip[4], protoUDP, inner, ip4Opt{frag: 0x2000}))
	w.dropped(fragment, ingress, func() uint32 { v, _ := w.arrives(first); return v })
	later := w.wire(4, ip4(w.other.ip[4], w.self.ip[4], protoUDP, inner, ip4Opt{frag: 8}))
	if v, mark := w.arrives(later); v != asIs || mark != 0 {
		t.Errorf("a later fragment: verdict %d, mark %#x", v, mark)
	}
	six := w.wire(6, ip6(w.other.ip[6], w.self.ip[6], 44, 64, concat(frag6(protoUDP, 0, true, 7), inner)))
	w.dropped(fragment, ingress, func() uint32 { v, _ := w.arrives(six); return v })
}

func TestPodsOfOtherNodesDoNotComeBare(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		unknown := &host{ip: addrs("10.3.0.77", "fd00:3::77")}
		for _, src := range []*host{w.pod, unknown, w.a} {
			for _, dst := range []*host{w.b, w.self} {
				frame := w.wire(f, packet(f, src.ip[f], dst.ip[f], protoTCP, tcp(4000, 80, syn)))
				w.dropped(barePod, ingress, func() uint32 { v, _ := w.arrives(frame); return v })
			}
		}
		for _, src := range []*host{w.other, w.far} {
			frame := w.wire(f, packet(f, src.ip[f], w.b.ip[f], protoTCP, tcp(4000, 80, syn)))
			w.passes(asIs, func() uint32 { v, _ := w.arrives(frame); return v })
		}
		// By a device that is no uplink: seen at the pod.
		w.dropped(barePod, ingress, func() uint32 {
			return w.to(w.b, w.c.ifindex, got(f, w.pod, w.b, protoTCP, tcp(4000, 80, syn)))
		})
	}
}

func TestPodsSendIntoTheTunnel(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		frame := sent(f, w.a, w.pod, protoTCP, tcp(4000, 80, syn))
		for range 2 { // a new flow, a known one
			v, out, ctx := w.run(w.objs.WeftFromPod, skb{Ifindex: w.a.ifindex}, frame)
			if v != actRedirect || ctx.Mark != markTunnel || hops(f, out) != hops(f, frame)-1 {
				t.Errorf("IPv%d: verdict %d, mark %#x, %d hops", f, v, ctx.Mark, hops(f, out))
			}
		}
		ct, answered := w.flow(f, w.a, w.pod, 4000, 80, protoTCP)
		if ct == nil || answered || ct.Node != otherNode || ct.Wire != 0 || ct.Identity[1] != w.pod.identity {
			t.Errorf("IPv%d: the flow is %+v", f, ct)
		}
		// What the stack must answer goes there as it is.
		large := sent(f, w.a, w.pod, protoUDP, udp(4000, 80, make([]byte, 1440)...))
		last := sent(f, w.a, w.pod, protoUDP, udp(4000, 80))
		setHops(f, last, 1)
		for _, frame := range [][]byte{large, last} {
			v, out, ctx := w.run(w.objs.WeftFromPod, skb{Ifindex: w.a.ifindex}, frame)
			if v != actOK || ctx.Mark != markInside || hops(f, out) != hops(f, frame) {
				t.Errorf("IPv%d: for the stack: verdict %d, mark %#x", f, v, ctx.Mark)
			}
		}
		w.put(w.objs.WeftNode, uint32(otherNode), weftbpf.BpfWeftNodeRow{})
		w.dropped(tunnelTarget, egress, func() uint32 { return w.from(w.a, frame) })
	}
}

// The stack reaches a node's own address without the tunnel, so it would not tell.
func TestPodsAreToldWhatIsTooBigForTheTunnelToANode(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		frame := sent(f, w.a, w.other, protoUDP, udp(4000, 80, make([]byte, 1440)...))
		head := map[int]int{4: 20, 6: 40}[f]
		for range 2 { // a new flow, a known one
			v, out, _ := w.run(w.objs.WeftFromPod, skb{Ifindex: w.a.ifindex}, frame)
			from, to, l4 := addressesOf(f, out)
			kind := map[int][2]byte{4: {3, 4}, 6: {2, 0}}[f]
			if v != actRedirect || from != w.other.ip[f] || to != w.a.ip[f] || [2]byte(l4) != kind || be.Uint32(l4[4:]) != 1450 {
				t.Fatalf("IPv%d: verdict %d, from %s to %s, %x", f, v, from, to, l4)
			}
			if quote := l4[8:]; string(quote) != string(frame[14:14+head+8]) {
				t.Errorf("IPv%d: quoted is\n%x of\n%x", f, quote, frame)
			}
		}
	}
}

func TestPodsDoNotSpeakToTheTunnel(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		for _, to := range []*host{w.self, w.other, w.far} {
			w.dropped(tunnelPort, egress, func() uint32 {
				return w.from(w.a, sent(f, w.a, to, protoUDP, udp(4000, vxlanPort)))
			})
			if ct, _ := w.flow(f, w.a, to, 4000, vxlanPort, protoUDP); ct != nil {
				t.Errorf("IPv%d: a refused flow is remembered", f)
			}
			w.passes(actOK, func() uint32 {
				w.from(w.a, sent(f, w.a, w.b, protoTCP, tcp(4000, vxlanPort, syn)))
				return actOK
			})
		}
		for _, to := range []*host{w.b, w.pod} { // a tunnel of the pods' own
			w.passes(actRedirect, func() uint32 {
				return w.from(w.a, sent(f, w.a, to, protoUDP, udp(4000, vxlanPort)))
			})
		}
		w.dropped(tunnelPort, ingress, func() uint32 {
			return w.to(w.a, w.uplink, got(f, w.far, w.a, protoUDP, udp(vxlanPort, 4000)))
		})
	}
}

// Without the mark of the uplink, and without a key of the device, nothing that comes
// out of the tunnel is believed.
func TestTheTunnelBelievesMarkedFramesOnly(t *testing.T) {
	w := newTunneled(t)
	frame := eth(w.self.mac, w.far.mac, ethIPv4, packet(4, w.pod.ip[4], w.a.ip[4], protoTCP, tcp(1, 2, syn)))
	for _, mark := range []uint32{0, 0x200, markTunnel} {
		w.dropped(tunnelPeer, ingress, func() uint32 {
			v, _, _ := w.run(w.objs.WeftFromVxlan, skb{Ifindex: w.dev, IngressIfindex: w.dev, Mark: mark}, frame)
			return v
		})
	}
}

func TestTheStackSendsIntoTheTunnel(t *testing.T) {
	for _, f := range families {
		w := newTunneled(t)
		send := func(mark uint32, dst netip.Addr) (uint32, []byte, skb) {
			frame := eth(w.self.mac, w.self.mac, etherType(f), packet(f, w.self.ip[f], dst, protoUDP, udp(1, 2)))
			return w.run(w.objs.WeftToVxlan, skb{Ifindex: w.dev, Mark: mark}, frame)
		}
		if v, out, _ := send(0, w.pod.ip[f]); v != actOK || mac(out[6:12]) != (mac{}) {
			t.Errorf("IPv%d: verdict %d, source MAC %x", f, v, out[6:12])
		}
		if v, _, ctx := send(markTunnel, w.far.ip[f]); v != actOK || ctx.Mark != 0 {
			t.Errorf("IPv%d: with its key: verdict %d, mark %#x", f, v, ctx.Mark)
		}
		w.dropped(tunnelTarget, egress, func() uint32 { v, _, _ := send(0, w.far.ip[f]); return v })
		w.drain()
		w.dropped(multicast, egress, func() uint32 {
			v, _, _ := send(0, addrs("224.0.0.22", "ff02::2")[f])
			return v
		})
		w.silent()
	}
}

// The tunnel's own frames keep their port, also where a pod has it.
func TestFramesOfTheTunnelAreNotTranslated(t *testing.T) {
	w := newTunneled(t)
	w.hostPort(4, protoUDP, w.self.at(4, 50000), w.b.at(4, 80), svcPort)
	frame := w.wire(4, packet(4, w.self.ip[4], w.other.ip[4], protoUDP, udp(50000, vxlanPort)))
	if v, out := w.leaves(0, frame); v != asIs || string(out[:len(frame)]) != string(frame) {
		t.Errorf("verdict %d", v)
	}
	if k := w.count(w.objs.WeftNat4); k != 0 {
		t.Errorf("%d keys", k)
	}
}

func hops(f int, frame []byte) byte {
	if f == 4 {
		return frame[14+8]
	}
	return frame[14+7]
}

func setHops(f int, frame []byte, hops byte) {
	if f == 6 {
		frame[14+7] = hops
		return
	}
	frame[14+8] = hops
	frame[14+10], frame[14+11] = 0, 0
	be.PutUint16(frame[14+10:], checksum(frame[14:34]))
}
