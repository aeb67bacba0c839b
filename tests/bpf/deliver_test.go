// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

func TestLocalDelivery(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		in := sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn, 1, 2, 3))
		v, out, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, in)
		if v != actRedirect {
			t.Fatalf("IPv%d: verdict %d", f, v)
		}
		want := bytes.Clone(in)
		copy(want, n.b.mac[:])
		copy(want[6:], n.b.gw[:])
		if f == 4 {
			want = append(want[:14], ip4(n.a.ip[4], n.b.ip[4], protoTCP, tcp(1000, 80, syn, 1, 2, 3), ip4Opt{ttl: 63})...)
		} else {
			want[14+7] = 63
		}
		if !bytes.Equal(out, want) {
			t.Errorf("IPv%d: delivered\n%x, want\n%x", f, out, want)
		}
		if p, b := n.counter(0, ingress); p == 0 || b == 0 {
			t.Errorf("IPv%d: not counted as having come in", f)
		}
	}
}

// Every value that a header's sum can have must be right after the hop.
func TestHopLimitKeepsTheSumRight(t *testing.T) {
	n := newNode(t)
	for id := uint16(0); ; id += 257 {
		p := ip4(n.a.ip[4], n.b.ip[4], protoUDP, udp(1, 2), ip4Opt{id: id, ttl: uint8(2 + id%250)})
		_, out, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, eth(n.a.gw, n.a.mac, ethIPv4, p))
		if s := checksum(out[14:34]); s != 0 {
			t.Fatalf("id %d: sum is off by %#x", id, s)
		}
		if id > 0xffff-257 {
			return
		}
	}
}

func TestWhatTheStackMustAnswer(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		big := udp(1, 2, make([]byte, 1500)...)
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, big)) })
		last := sent(f, n.a, n.b, protoUDP, udp(3, 4))
		if f == 4 {
			last = eth(n.a.gw, n.a.mac, ethIPv4, ip4(n.a.ip[4], n.b.ip[4], protoUDP, udp(3, 4), ip4Opt{ttl: 1}))
		} else {
			last[14+7] = 1
		}
		v, out, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, last)
		if v != actOK || !bytes.Equal(out, last) {
			t.Errorf("IPv%d: verdict %d; with no hop left the packet must reach the stack as it is", f, v)
		}
		// Elsewhere: the host routes it.
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoUDP, udp(5, 6))) })
	}
}

// A segment counts as large as it will be on the wire.
func TestSegmentsFit(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		frame := sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack, make([]byte, 3000)...))
		head := uint32(40)
		if f == 6 {
			head = 60
		}
		for _, tc := range []struct{ size, want uint32 }{{1500 - head, actRedirect}, {1501 - head, actOK}} {
			v, _, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex, GsoSize: tc.size, GsoSegs: 3}, frame)
			if v != tc.want {
				t.Errorf("IPv%d: segments of %d bytes: verdict %d, want %d", f, tc.size, v, tc.want)
			}
		}
		if ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP); ct.Packets[0] != 6 {
			t.Errorf("IPv%d: %d packets counted, want 6", f, ct.Packets[0])
		}
	}
}

// An address of a slot that is free now must not fall through to the host.
func TestReceiverIsGone(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		n.put(n.objs.WeftEp, uint32(n.b.slot), &weftbpf.BpfWeftEpRow{})
		n.dropped(redirect, ingress, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1, 2))) })
		n.dropped(redirect, ingress, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) })
	}
}
