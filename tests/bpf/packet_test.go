// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	ethIPv4 = 0x0800
	ethARP  = 0x0806
	ethIPv6 = 0x86dd

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132

	fin, syn, rst, ack = 1, 2, 4, 16
)

var be = binary.BigEndian

type mac [6]byte

// eth frames a payload.
func eth(dst, src mac, proto uint16, payload []byte) []byte {
	b := append(append([]byte{}, dst[:]...), src[:]...)
	return append(be.AppendUint16(b, proto), payload...)
}

// ip4Opt is what of an IPv4 header is not usual.
type ip4Opt struct {
	id, frag uint16 // frag: flags and offset as on the wire
	ttl      uint8
	options  []byte
}

func ip4(src, dst netip.Addr, proto uint8, payload []byte, o ip4Opt) []byte {
	if o.ttl == 0 {
		o.ttl = 64
	}
	b := []byte{byte(0x45 + len(o.options)/4), 0}
	b = be.AppendUint16(b, uint16(20+len(o.options)+len(payload)))
	b = be.AppendUint16(b, o.id)
	b = be.AppendUint16(b, o.frag)
	b = append(b, o.ttl, proto, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(b, o.options...)
	be.PutUint16(b[10:], checksum(b))
	return append(b, payload...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(be.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ip6 makes an IPv6 packet; next is the type of the first header in payload.
func ip6(src, dst netip.Addr, next uint8, hops uint8, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = be.AppendUint16(b, uint16(len(payload)))
	b = append(b, next, hops)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, payload...)
}

// ext is an 8-byte extension header: options, or for routing type and segments.
func ext(next uint8, body ...byte) []byte {
	return append([]byte{next, 0}, append(body, make([]byte, 6-len(body))...)...)
}

// frag6 is a fragment header; offset in units of 8 bytes.
func frag6(next uint8, offset uint16, more bool, id uint32) []byte {
	v := offset << 3
	if more {
		v |= 1
	}
	return be.AppendUint32(be.AppendUint16([]byte{next, 0}, v), id)
}

func tcp(sport, dport uint16, flags uint8, payload ...byte) []byte {
	b := be.AppendUint16(be.AppendUint16(nil, sport), dport)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(b, payload...)
}

func udp(sport, dport uint16, payload ...byte) []byte {
	b := be.AppendUint16(be.AppendUint16(nil, sport), dport)
	b = be.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

func sctp(sport, dport uint16) []byte {
	return append(be.AppendUint16(be.AppendUint16(nil, sport), dport), make([]byte, 12)...)
}

// icmp is a query or, with a quoted packet, an error.
func icmp(typ, code uint8, id uint16, payload ...byte) []byte {
	return append(be.AppendUint16([]byte{typ, code, 0, 0}, id), append([]byte{0, 1}, payload...)...)
}

func arp(op uint16, sha mac, spa, tpa netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = be.AppendUint16(b, op)
	b = append(append(b, sha[:]...), spa.AsSlice()...)
	return append(append(b, make([]byte, 6)...), tpa.AsSlice()...)
}

// nd is a discovery message: its options are link-layer addresses of type opt.
func nd(typ uint8, target netip.Addr, opt uint8, addr *mac) []byte {
	b := []byte{typ, 0, 0, 0, 0, 0, 0, 0}
	if target.IsValid() {
		b = append(b, target.AsSlice()...)
	}
	if addr != nil {
		b = append(append(b, opt, 1), addr[:]...)
	}
	return b
}

func concat(parts ...[]byte) []byte { return slices.Concat(parts...) }
