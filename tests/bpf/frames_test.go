// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

func etherType(f int) uint16 {
	if f == 4 {
		return ethIPv4
	}
	return ethIPv6
}

func packet(f int, src, dst netip.Addr, proto uint8, l4 []byte) []byte {
	if f == 4 {
		return ip4(src, dst, proto, l4, ip4Opt{})
	}
	return ip6(src, dst, proto, 64, l4)
}

// sent is a frame as the pod sends it.
func sent(f int, src, dst *host, proto uint8, l4 []byte) []byte {
	return eth(src.gw, src.mac, etherType(f), packet(f, src.ip[f], dst.ip[f], proto, l4))
}

// got is a frame as the host sends it to the pod.
func got(f int, src, dst *host, proto uint8, l4 []byte) []byte {
	return eth(dst.mac, dst.gw, etherType(f), packet(f, src.ip[f], dst.ip[f], proto, l4))
}

// echo is the protocol and types of an echo request and its reply.
func echo(f int) (proto, request, reply uint8) {
	if f == 4 {
		return protoICMP, 8, 0
	}
	return protoICMPv6, 128, 129
}

// key4 and key6 are the flow's key and whether the sender is side b.
func key(f int, src, dst *host, sport, dport uint16, proto uint8) (any, bool) {
	a, b := netip.AddrPortFrom(src.ip[f], sport), netip.AddrPortFrom(dst.ip[f], dport)
	swap := a.Compare(b) > 0
	if swap {
		a, b = b, a
	}
	ports := [2]uint16{wire16(a.Port()), wire16(b.Port())}
	if f == 4 {
		return weftbpf.BpfWeftCt4Key{Addr: [2]uint32{wire32(a.Addr()), wire32(b.Addr())},
			Port: ports, Proto: proto}, swap
	}
	return weftbpf.BpfWeftCt6Key{Addr: [2][16]uint8{a.Addr().As16(), b.Addr().As16()},
		Port: ports, Proto: proto}, swap
}

func wire16(v uint16) uint16 {
	b := be.AppendUint16(nil, v)
	return *(*uint16)(unsafe.Pointer(&b[0]))
}

func wire32(a netip.Addr) uint32 {
	v := a.As4()
	return *(*uint32)(unsafe.Pointer(&v[0]))
}

// tables are the answered and the unanswered flows of a family.
func (n *node) tables(f int) (answered, unanswered *ebpf.Map) {
	if f == 4 {
		return n.objs.WeftCt4, n.objs.WeftCtn4
	}
	return n.objs.WeftCt6, n.objs.WeftCtn6
}

// flow finds a flow: its entry, and whether it is answered; nil if unknown.
func (n *node) flow(f int, src, dst *host, sport, dport uint16, proto uint8) (*weftbpf.BpfWeftCt, bool) {
	n.Helper()
	k, _ := key(f, src, dst, sport, dport, proto)
	return n.entry(f, k)
}

// beside finds the flow that the proxy opened with addresses and ports.
func (n *node) beside(f int, src, dst *host, sport, dport uint16) *weftbpf.BpfWeftCt {
	n.Helper()
	ct, _ := n.entry(f, besideKey(f, src, dst, sport, dport))
	return ct
}

func besideKey(f int, src, dst *host, sport, dport uint16) any {
	k, _ := key(f, src, dst, sport, dport, protoTCP)
	if f == 4 {
		k4 := k.(weftbpf.BpfWeftCt4Key)
		k4.Beside = 1
		return k4
	}
	k6 := k.(weftbpf.BpfWeftCt6Key)
	k6.Beside = 1
	return k6
}

func (n *node) entry(f int, k any) (*weftbpf.BpfWeftCt, bool) {
	n.Helper()
	answered, unanswered := n.tables(f)
	var ct weftbpf.BpfWeftCt
	if unanswered.Lookup(k, &ct) == nil {
		return &ct, false
	}
	if f == 4 {
		var row weftbpf.BpfWeftCt4Row
		if answered.Lookup(k, &row) != nil {
			return nil, false
		}
		return &row.Ct, true
	}
	var row weftbpf.BpfWeftCt6Row
	if answered.Lookup(k, &row) != nil {
		return nil, false
	}
	return &row.Ct, true
}

// change rewrites a flow's entry where it is.
func (n *node) change(f int, src, dst *host, sport, dport uint16, proto uint8, do func(*weftbpf.BpfWeftCt)) {
	n.Helper()
	k, _ := key(f, src, dst, sport, dport, proto)
	n.changeAt(f, k, do)
}

func (n *node) changeAt(f int, k any, do func(*weftbpf.BpfWeftCt)) {
	n.Helper()
	ct, isAnswered := n.entry(f, k)
	if ct == nil {
		n.Fatal("no such flow")
	}
	do(ct)
	answered, unanswered := n.tables(f)
	switch {
	case !isAnswered:
		n.put(unanswered, k, ct)
	case f == 4:
		n.put(answered, k, &weftbpf.BpfWeftCt4Row{Ct: *ct})
	default:
		n.put(answered, k, &weftbpf.BpfWeftCt6Row{Ct: *ct})
	}
}

// forget removes a flow from conntrack.
func (n *node) forget(f int, src, dst *host, sport, dport uint16, proto uint8) {
	n.Helper()
	k, _ := key(f, src, dst, sport, dport, proto)
	answered, unanswered := n.tables(f)
	if err := errors.Join(gone(answered.Delete(k)), gone(unanswered.Delete(k))); err != nil {
		n.Fatal(err)
	}
}

func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// open makes an answered TCP flow from a to b, both pods.
func (n *node) open(f int, a, b *host, sport, dport uint16) {
	n.Helper()
	n.passes(actRedirect, func() uint32 { return n.from(a, sent(f, a, b, protoTCP, tcp(sport, dport, syn))) })
	n.passes(actRedirect, func() uint32 { return n.from(b, sent(f, b, a, protoTCP, tcp(dport, sport, syn|ack))) })
	n.passes(actRedirect, func() uint32 { return n.from(a, sent(f, a, b, protoTCP, tcp(sport, dport, ack))) })
	if _, answered := n.flow(f, a, b, sport, dport, protoTCP); !answered {
		n.Fatal("the flow is not in the table of answered ones")
	}
}

// count is the number of entries of a map.
func (n *node) count(m *ebpf.Map) int {
	n.Helper()
	k, v, total := make([]byte, m.KeySize()), make([]byte, m.ValueSize()), 0
	it := m.Iterate()
	for it.Next(&k, &v) {
		total++
	}
	if err := it.Err(); err != nil {
		n.Fatal(err)
	}
	return total
}
