// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoDestOpts = 60

	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd

	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpACK = 16
)

// ether is a whole frame.
func ether(dst, src net.HardwareAddr, kind uint16, body []byte) []byte {
	f := append(append(make([]byte, 0, 14+len(body)), dst...), src...)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// datagram is an IP packet to be; its family is that of its addresses. For IPv6
// proto may be that of an extension header at the start of body.
type datagram struct {
	src, dst netip.Addr
	proto    byte
	ttl      byte   // 0: 64
	id       uint16 // IPv4
	frag     uint16 // IPv4: flags and offset in units of 8 bytes
	options  []byte // IPv4, a multiple of 4 bytes
	body     []byte
}

func (d datagram) etherType() uint16 {
	if d.src.Is4() {
		return etherIPv4
	}
	return etherIPv6
}

// bytes is the packet with its lengths and, for IPv4, its checksum.
func (d datagram) bytes() []byte {
	ttl := d.ttl
	if ttl == 0 {
		ttl = 64
	}
	if !d.src.Is4() {
		p := make([]byte, 40, 40+len(d.body))
		p[0] = 6 << 4
		binary.BigEndian.PutUint16(p[4:], uint16(len(d.body)))
		p[6], p[7] = d.proto, ttl
		copy(p[8:], d.src.AsSlice())
		copy(p[24:], d.dst.AsSlice())
		return append(p, d.body...)
	}
	p := append(make([]byte, 20, 20+len(d.options)+len(d.body)), d.options...)
	p[0] = byte(4<<4 | len(p)/4)
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)+len(d.body)))
	binary.BigEndian.PutUint16(p[4:], d.id)
	binary.BigEndian.PutUint16(p[6:], d.frag)
	p[8], p[9] = ttl, d.proto
	copy(p[12:], d.src.AsSlice())
	copy(p[16:], d.dst.AsSlice())
	binary.BigEndian.PutUint16(p[10:], onesSum(p))
	return append(p, d.body...)
}

// onesSum is the Internet checksum.
func onesSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i < len(p); i++ {
			if i%2 == 0 {
				sum += uint32(p[i]) << 8
			} else {
				sum += uint32(p[i])
			}
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// pseudo is the part of the IP header that transport checksums cover.
func pseudo(src, dst netip.Addr, proto byte, length int) []byte {
	p := append(src.AsSlice(), dst.AsSlice()...)
	p = binary.BigEndian.AppendUint32(p, uint32(length))
	return append(p, 0, 0, 0, proto)
}

func udpTo(src, dst netip.AddrPort, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	binary.BigEndian.PutUint16(b[6:], onesSum(pseudo(src.Addr(), dst.Addr(), protoUDP, len(b)), b))
	return b
}

func tcpTo(src, dst netip.AddrPort, flags byte, seq, ack uint32, payload string) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[16:], onesSum(pseudo(src.Addr(), dst.Addr(), protoTCP, len(b)), b))
	return b
}

// icmpOf is an ICMP or ICMPv6 message; rest are its second four bytes.
func icmpOf(src, dst netip.Addr, kind, code byte, rest uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, rest)
	b = append(b, payload...)
	if src.Is4() {
		binary.BigEndian.PutUint16(b[2:], onesSum(b))
	} else {
		binary.BigEndian.PutUint16(b[2:], onesSum(pseudo(src, dst, protoICMPv6, len(b)), b))
	}
	return b
}

// icmpProto is the protocol that carries ICMP of the address's family.
func icmpProto(a netip.Addr) byte {
	if a.Is4() {
		return protoICMP
	}
	return protoICMPv6
}

// unreachable is a "port unreachable" about the packet quoted.
func unreachable(src, dst netip.Addr, quoted []byte) datagram {
	kind, code := byte(3), byte(3)
	if !src.Is4() {
		kind, code = 1, 4
	}
	return datagram{src: src, dst: dst, proto: icmpProto(src), body: icmpOf(src, dst, kind, code, 0, quoted)}
}

func arpOf(op uint16, sender net.HardwareAddr, senderIP netip.Addr, target net.HardwareAddr, targetIP netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, byte(op >> 8), byte(op)}
	b = append(append(b, sender...), senderIP.AsSlice()...)
	return append(append(b, target...), targetIP.AsSlice()...)
}

// neighbour is a discovery message with one option, the link-layer address mac.
func neighbour(src, dst netip.Addr, kind byte, rest uint32, fields []byte, option byte, mac net.HardwareAddr) datagram {
	body := append(append(append([]byte(nil), fields...), option, 1), mac...)
	return datagram{src: src, dst: dst, proto: protoICMPv6, ttl: 255, body: icmpOf(src, dst, kind, 0, rest, body)}
}

// extension is an IPv6 extension header of 8 bytes: padding.
func extension(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }

// fragment6 is an IPv6 fragment header; offset in bytes.
func fragment6(next byte, offset uint16, more bool, id uint32) []byte {
	place := offset &^ 7
	if more {
		place |= 1
	}
	b := binary.BigEndian.AppendUint16([]byte{next, 0}, place)
	return binary.BigEndian.AppendUint32(b, id)
}
