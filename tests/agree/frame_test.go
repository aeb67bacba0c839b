// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// flow is the first packet of a connection. For ICMP dport is type<<8 | code and
// sport the identifier.
type flow struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
}

// appendFrame builds the packet in an Ethernet frame. Sums are left at zero: no
// program looks at them.
func (f flow) appendFrame(b []byte, dst, src model.MAC) []byte {
	b = append(append(b, dst[:]...), src[:]...)
	l4 := f.transport()
	if f.src.Is4() {
		b = append(b, 8, 0, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+len(l4)))
		b = append(b, 0, 1, 0, 0, 64, f.proto, 0, 0)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(l4)))
		b = append(b, f.proto, 64)
	}
	b = append(append(b, f.src.AsSlice()...), f.dst.AsSlice()...)
	return append(b, l4...)
}

func (f flow) transport() []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 32), f.sport)
	b = binary.BigEndian.AppendUint16(b, f.dport)
	switch f.proto {
	case model.ProtoTCP:
		return append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0) // SYN
	case model.ProtoUDP:
		return append(b, 0, 8, 0, 0)
	case model.ProtoSCTP:
		return append(b, make([]byte, 12)...)
	case model.ProtoICMP, model.ProtoICMPv6:
		b = append(b[:0], byte(f.dport>>8), byte(f.dport), 0, 0)
		return append(binary.BigEndian.AppendUint16(b, f.sport), 0, 1)
	}
	return make([]byte, 32)
}

// query tells whether conntrack knows the message by its identifier.
func (f flow) query() bool {
	switch f.proto {
	case model.ProtoICMP:
		t := f.dport >> 8
		return t == 8 || t == 13 || t == 15 || t == 17
	case model.ProtoICMPv6:
		return f.dport>>8 == 128
	}
	return false
}

// ports are those in conntrack's key: of the sender and of the receiver.
func (f flow) ports() (s, d uint16) {
	switch f.proto {
	case model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP:
		return f.sport, f.dport
	}
	if f.query() {
		return f.sport, f.sport
	}
	return 0, 0
}
