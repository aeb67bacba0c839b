// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"testing"
)

// piece is a fragment of a transport on its way between two hosts.
func piece(f int, src, dst *host, proto uint8, id uint16, l4 []byte, from, to int) []byte {
	more, offset := to < len(l4), uint16(from/8)
	if f == 4 {
		flags := offset
		if more {
			flags |= 0x2000
		}
		return ip4(src.ip[4], dst.ip[4], proto, l4[from:to], ip4Opt{id: id, frag: flags})
	}
	return ip6(src.ip[6], dst.ip[6], 44, 64, append(frag6(proto, offset, more, uint32(id)), l4[from:to]...))
}

// partOf is what a fragment has of the transport.
func partOf(f int, frame []byte) []byte {
	if f == 4 {
		return frame[34:]
	}
	return frame[62:]
}

// ends are the addresses of a frame.
func ends(f int, frame []byte) (src, dst string) {
	at, size := 26, 4
	if f == 6 {
		at, size = 22, 16
	}
	return string(frame[at : at+size]), string(frame[at+size : at+2*size])
}

// A datagram in pieces is translated both ways; whole again, its sum is right.
func TestFragmentsAreTranslated(t *testing.T) {
	for _, f := range families {
		for _, proto := range []uint8{protoUDP, protoTCP} {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) {
				n := newUplink(t, nil)
				n.translated(f, n.b, proto, 4000, 80) // so that the port changes, too
				body := append(message(f, proto, 4000, 80, false), bytes.Repeat([]byte{1, 2, 3, 4}, 20)...)
				l4 := summed(f, n.a.ip[f], n.far.ip[f], proto, body)
				whole := []byte{}
				for _, cut := range [][2]int{{0, 40}, {40, 64}, {64, len(l4)}} {
					v, out := n.goesOut(n.a, f, piece(f, n.a, n.far, proto, 77, l4, cut[0], cut[1]))
					if src, dst := ends(f, out); v != asIs || src != string(n.self.ip[f].AsSlice()) || dst != string(n.far.ip[f].AsSlice()) {
						t.Fatalf("the piece from %d: verdict %d, from %x to %x", cut[0], v, src, dst)
					}
					whole = append(whole, partOf(f, out)...)
				}
				port := be.Uint16(whole)
				if s := transportSum(n.self.ip[f], n.far.ip[f], proto, whole); s != 0 || port == 4000 {
					t.Errorf("out: port %d, the sum is off by %#x", port, s)
				}

				body = append(message(f, proto, 80, port, true), bytes.Repeat([]byte{5, 6, 7, 8}, 20)...)
				l4 = summed(f, n.far.ip[f], n.self.ip[f], proto, body)
				whole = nil
				for _, cut := range [][2]int{{0, 40}, {40, len(l4)}} {
					_, out := n.comes(n.wire(f, piece(f, n.far, n.self, proto, 78, l4, cut[0], cut[1])))
					if _, dst := ends(f, out); dst != string(n.a.ip[f].AsSlice()) {
						t.Fatalf("the piece from %d goes to %x", cut[0], dst)
					}
					whole = append(whole, partOf(f, out)...)
				}
				if s := transportSum(n.far.ip[f], n.a.ip[f], proto, whole); s != 0 || be.Uint16(whole[2:]) != 4000 {
					t.Errorf("in: port %d, the sum is off by %#x", be.Uint16(whole[2:]), s)
				}
			})
		}
	}
}

// A later piece without its first: of a pod's it must not leave with the pod's
// address, of the host's it is none of ours.
func TestFragmentsWithoutTheirFirst(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		n.translated(f, n.a, protoUDP, 4000, 80)
		l4 := udp(4000, 80, make([]byte, 64)...)
		n.dropped(fragment, egress, func() uint32 {
			v, _ := n.leaves(n.a.ifindex, n.wire(f, piece(f, n.a, n.far, protoUDP, 5, l4, 24, 48)))
			return v
		})
		n.untouched("of the host's", 0, n.wire(f, piece(f, n.self, n.far, protoUDP, 5, l4, 24, 48)))
		frame := n.wire(f, piece(f, n.far, n.self, protoUDP, 5, l4, 24, 48))
		if v, out := n.comes(frame); v != asIs || !bytes.Equal(out, frame) {
			t.Errorf("IPv%d: verdict %d, a piece for the host is turned", f, v)
		}
		// The answer to a flow from outside, cut by the host's stack.
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, protoUDP, udp(90, 91))) })
		answer := udp(91, 90, make([]byte, 64)...)
		n.passes(actOK, func() uint32 {
			return n.from(n.a, eth(n.a.gw, n.a.mac, etherType(f), piece(f, n.a, n.far, protoUDP, 6, answer, 0, 24)))
		})
		n.untouched("the rest of an answer to the outside", n.a.ifindex, n.wire(f, piece(f, n.a, n.far, protoUDP, 6, answer, 24, 48)))
	}
}

// A remote that answers pods and the host numbers its datagrams for both: the host
// gets the whole of its own, also where a pod's had the number before.
func TestFragmentsForTheHostAfterAPods(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		n.translated(f, n.a, protoUDP, 4000, 80)
		body := make([]byte, 64)
		for _, cut := range [][2]int{{0, 24}, {24, 48}} {
			_, out := n.comes(n.wire(f, piece(f, n.far, n.self, protoUDP, 9, udp(80, 4000, body...), cut[0], cut[1])))
			if _, dst := ends(f, out); dst != string(n.a.ip[f].AsSlice()) {
				t.Fatalf("IPv%d: the pod's piece from %d goes to %x", f, cut[0], dst)
			}
		}
		for _, cut := range [][2]int{{0, 24}, {24, 48}} {
			frame := n.wire(f, piece(f, n.far, n.self, protoUDP, 9, udp(80, 5000, body...), cut[0], cut[1]))
			if v, out := n.comes(frame); v != asIs || !bytes.Equal(out, frame) {
				t.Errorf("IPv%d: verdict %d, the host's piece from %d is turned", f, v, cut[0])
			}
		}
	}
}

// A packet that the host's stack cuts on its way out: the pieces' first is seen at
// the uplink only.
func TestFragmentsMadeByTheHost(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		n.translated(f, n.a, protoUDP, 4000, 80)
		l4 := udp(4000, 80, make([]byte, 64)...)
		for _, from := range []int{0, 24, 48} {
			_, out := n.leaves(n.a.ifindex, n.wire(f, piece(f, n.a, n.far, protoUDP, 5, l4, from, from+24)))
			if src, _ := ends(f, out); src != string(n.self.ip[f].AsSlice()) {
				t.Errorf("IPv%d: the piece from %d leaves from %x", f, from, src)
			}
		}
	}
}

// A sum of zero is none in UDP over IPv4, and stays; one that becomes zero is
// written in its other form.
func TestZeroSums(t *testing.T) {
	n := newUplink(t, nil)
	bare := ip4(n.a.ip[4], n.far.ip[4], protoUDP, udp(4000, 80, 1, 2), ip4Opt{})
	_, out := n.goesOut(n.a, 4, bare)
	if got := out[34:]; !bytes.Equal(got, udp(4000, 80, 1, 2)) {
		t.Errorf("without a sum, the datagram left as %x", got)
	}
	n.translated(4, n.b, protoUDP, 4000, 80) // has another port
	_, out = n.goesOut(n.b, 4, ip4(n.b.ip[4], n.far.ip[4], protoUDP, udp(4000, 80, 1, 2), ip4Opt{}))
	if sum := be.Uint16(out[34+6:]); sum != 0 || be.Uint16(out[34:]) == 4000 {
		t.Errorf("without a sum and with another port, the sum is %#x", sum)
	}
	for _, f := range families {
		n.translated(f, n.a, protoUDP, 4000, 80)
		zero := udp(4000, 80, 0, 0)
		be.PutUint16(zero[8:], transportSum(n.self.ip[f], n.far.ip[f], protoUDP, zero))
		if s := transportSum(n.self.ip[f], n.far.ip[f], protoUDP, zero); s != 0 {
			t.Fatalf("the sum as it leaves would be %#x", s)
		}
		_, out := n.goesOut(n.a, f, between(f, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, zero))
		_, _, l4 := n.seen(f, out)
		if sum := be.Uint16(l4[6:]); sum != 0xffff {
			t.Errorf("IPv%d: a sum that became zero is %#x", f, sum)
		}
	}
}

// IPv4 options and IPv6 extension headers stand between.
func TestOptionsAreSteppedOver(t *testing.T) {
	n := newUplink(t, nil)
	l4 := summed(4, n.a.ip[4], n.far.ip[4], protoUDP, udp(4000, 80, 1))
	_, out := n.goesOut(n.a, 4, ip4(n.a.ip[4], n.far.ip[4], protoUDP, l4, ip4Opt{options: []byte{1, 1, 1, 1}}))
	if s := checksum(out[14:38]); s != 0 {
		t.Errorf("IPv4: the header's sum is off by %#x", s)
	}
	if s := transportSum(n.self.ip[4], n.far.ip[4], protoUDP, out[38:]); s != 0 {
		t.Errorf("IPv4: the sum is off by %#x", s)
	}
	l4 = summed(6, n.a.ip[6], n.far.ip[6], protoUDP, udp(4000, 80, 1))
	_, out = n.goesOut(n.a, 6, ip6(n.a.ip[6], n.far.ip[6], 60, 64, append(ext(protoUDP, 1, 4), l4...)))
	if s := transportSum(n.self.ip[6], n.far.ip[6], protoUDP, out[62:]); s != 0 {
		t.Errorf("IPv6: the sum is off by %#x", s)
	}
}
