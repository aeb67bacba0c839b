// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	asIs = 0xffffffff // TC_ACT_UNSPEC: on to the next program

	snatPorts = weftbpf.BpfWeftReasonWEFT_DROP_SNAT_PORTS
	natFull   = weftbpf.BpfWeftReasonWEFT_DROP_NAT_FULL
)

// newUplink is a node whose uplink translates to the host's addresses.
func newUplink(t testing.TB, change func(*weftbpf.BpfWeftConfig)) *node {
	t.Helper()
	n := newNodeWith(t, change)
	n.put(n.objs.WeftUplink, n.uplink, weftbpf.BpfWeftUplinkRow{Ip4: wire32(n.self.ip[4]), Ip6: n.self.ip[6].As16()})
	n.home(n.self)
	return n
}

// home tells that the host has the addresses.
func (n *node) home(h *host) {
	n.Helper()
	for _, ip := range h.ip {
		n.put(n.objs.WeftHome, weftbpf.BpfWeftHomeKey{Addr: addr16(ip)}, uint32(1))
	}
}

// addr16 is an address as maps that serve both families have it.
func addr16(ip netip.Addr) (out [16]uint8) {
	copy(out[:], ip.AsSlice())
	return out
}

// leaves gives the frame to the uplink's egress program: from that device, or 0.
func (n *node) leaves(in uint32, frame []byte) (uint32, []byte) {
	n.Helper()
	v, out, _ := n.run(n.objs.WeftToNet, skb{Ifindex: n.uplink, IngressIfindex: in}, frame)
	return v, out
}

// comes gives the frame to the uplink's ingress program.
func (n *node) comes(frame []byte) (uint32, []byte) {
	n.Helper()
	v, out, _ := n.run(n.objs.WeftFromNet, skb{Ifindex: n.uplink, IngressIfindex: n.uplink}, frame)
	return v, out
}

// wire frames a packet as it is on the uplink.
func (n *node) wire(f int, packet []byte) []byte {
	return eth(n.far.mac, n.self.mac, etherType(f), packet)
}

// goesOut sends a pod's packet through both programs on its way.
func (n *node) goesOut(h *host, f int, packet []byte) (uint32, []byte) {
	n.Helper()
	n.passes(actOK, func() uint32 { return n.from(h, eth(h.gw, h.mac, etherType(f), packet)) })
	return n.leaves(h.ifindex, n.wire(f, packet))
}

// end is one side of a packet, or both.
type end = netip.AddrPort

func (h *host) at(f int, port uint16) end { return netip.AddrPortFrom(h.ip[f], port) }

// between is a whole packet with right sums from one end to another.
func between(f int, src, dst end, proto uint8, l4 []byte) []byte {
	return packet(f, src.Addr(), dst.Addr(), proto, summed(f, src.Addr(), dst.Addr(), proto, l4))
}

// pseudo is the sum of the pseudo header, not folded into its complement.
func pseudo(src, dst netip.Addr, proto uint8, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	return append(be.AppendUint32(b, uint32(length)), 0, 0, 0, proto)
}

// sumAt is where a transport has its sum, -1 if it has none of this kind.
func sumAt(proto uint8) int {
	switch proto {
	case protoTCP:
		return 16
	case protoUDP:
		return 6
	case protoICMP, protoICMPv6:
		return 2
	}
	return -1
}

// transportSum is 0 over a transport whose sum is right.
func transportSum(src, dst netip.Addr, proto uint8, l4 []byte) uint16 {
	b := append([]byte{}, l4...)
	if proto != protoICMP {
		b = append(pseudo(src, dst, proto, len(l4)), b...)
	}
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	return checksum(b)
}

// summed writes the transport's sum.
func summed(_ int, src, dst netip.Addr, proto uint8, l4 []byte) []byte {
	at := sumAt(proto)
	if at < 0 {
		return l4
	}
	l4 = append([]byte{}, l4...)
	l4[at], l4[at+1] = 0, 0
	sum := transportSum(src, dst, proto, l4)
	if sum == 0 && proto == protoUDP {
		sum = 0xffff
	}
	be.PutUint16(l4[at:], sum)
	return l4
}

// seen is what a frame says: its ends, and whether all its sums are right.
func (n *node) seen(f int, frame []byte) (src, dst end, l4 []byte) {
	n.Helper()
	p := frame[14:]
	var proto uint8
	var from, to netip.Addr
	if f == 4 {
		if s := checksum(p[:20]); s != 0 {
			n.Errorf("IPv4: the header's sum is off by %#x", s)
		}
		proto, l4 = p[9], p[20:]
		from, _ = netip.AddrFromSlice(p[12:16])
		to, _ = netip.AddrFromSlice(p[16:20])
	} else {
		proto, l4 = p[6], p[40:]
		from, _ = netip.AddrFromSlice(p[8:24])
		to, _ = netip.AddrFromSlice(p[24:40])
	}
	if sumAt(proto) >= 0 {
		if s := transportSum(from, to, proto, l4); s != 0 {
			n.Errorf("IPv%d, protocol %d: the sum is off by %#x", f, proto, s)
		}
	}
	var ports [2]uint16
	switch proto {
	case protoTCP, protoUDP, protoSCTP:
		ports = [2]uint16{be.Uint16(l4), be.Uint16(l4[2:])}
	case protoICMP, protoICMPv6:
		ports = [2]uint16{be.Uint16(l4[4:]), be.Uint16(l4[4:])}
	}
	return netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1]), l4
}

// natTable is the table of translated flows of a family.
func (n *node) natTable(f int) *ebpf.Map {
	if f == 4 {
		return n.objs.WeftNat4
	}
	return n.objs.WeftNat6
}

// natKey is a key of it.
func natKey(f int, kind weftbpf.BpfWeftNatKind, src, dst end, proto uint8) any {
	if f == 4 {
		return weftbpf.BpfWeftNat4Key{Src: wire32(src.Addr()), Dst: wire32(dst.Addr()), Sport: wire16(src.Port()),
			Dport: wire16(dst.Port()), Proto: proto, Kind: uint8(kind)}
	}
	return weftbpf.BpfWeftNat6Key{Src: src.Addr().As16(), Dst: dst.Addr().As16(), Sport: wire16(src.Port()),
		Dport: wire16(dst.Port()), Proto: proto, Kind: uint8(kind)}
}

// nat finds a translation, nil if there is none.
func (n *node) nat(f int, kind weftbpf.BpfWeftNatKind, src, dst end, proto uint8) *weftbpf.BpfWeftNat {
	var v weftbpf.BpfWeftNat
	if n.natTable(f).Lookup(natKey(f, kind, src, dst, proto), &v) != nil {
		return nil
	}
	return &v
}

func (n *node) natGC() weftbpf.BpfWeftNatgc {
	n.Helper()
	var arg weftbpf.BpfWeftNatgc
	n.syscall(n.objs.WeftNatGc, unsafe.Slice((*byte)(unsafe.Pointer(&arg)), unsafe.Sizeof(arg)))
	return arg
}
