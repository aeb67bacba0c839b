// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/tests/sandbox"
)

// forger is somebody on the underlay who sends what a node would send.
type forger struct {
	*sandbox.Raw
	to  net.HardwareAddr // the victim's uplink
	out netip.Addr       // the victim's end of the tunnel
}

// forge is a frame of the tunnel that says it comes from outer.
type forge struct {
	outer    netip.Addr
	vni      uint32
	src, dst netip.Addr // of the inner datagram
	sport    uint16     // 0: 4000
	split    uint16     // 0: whole; else the frame comes in two pieces, cut after so many bytes
}

func (n *node) forger(t *testing.T, ns *sandbox.NS, device, victims string) *forger {
	t.Helper()
	raw, err := sandbox.OpenRaw(ns, device)
	ok(t, err)
	t.Cleanup(raw.Close)
	f := &forger{Raw: raw, out: n.addrs[0]}
	within(t, n.ns, func() error {
		dev, err := netlink.LinkByName(victims)
		if err == nil {
			f.to = dev.Attrs().HardwareAddr
		}
		return err
	})
	return f
}

// send puts the frame on the wire, in pieces if it is to be; skip leaves one out.
func (f *forger) send(t *testing.T, g forge, skip ...int) {
	t.Helper()
	for i, p := range g.packets(f.out) {
		if len(skip) > 0 && i == skip[0] {
			continue
		}
		ok(t, f.Send(ether(f.to, f.MAC, p)))
	}
}

// packets is the outer IPv4 packet, or its fragments.
func (g forge) packets(to netip.Addr) [][]byte {
	sport := g.sport
	if sport == 0 {
		sport = 4000
	}
	inner := ether(net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2},
		packet(g.src, g.dst, udp(sport, 8080, bytes.Repeat([]byte("w"), 64)), 0, 0))
	vxlan := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, g.vni<<8)
	whole := udp(50000, tunnelPort, append(vxlan, inner...))
	if g.split == 0 {
		return [][]byte{packet(g.outer, to, whole, 0, 0)}
	}
	return [][]byte{packet(g.outer, to, whole[:g.split], 77, 0x2000),
		packet(g.outer, to, whole[g.split:], 77, g.split/8)}
}

// udp has no sum, as IPv4 allows, and as the tunnel does.
func udp(sport, dport uint16, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(body)))
	return append(append(b, 0, 0), body...)
}

// packet is an IPv4 packet of UDP.
func packet(src, dst netip.Addr, body []byte, id, frag uint16) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(body)))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, 64, 17, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return append(b, body...)
}

func ether(dst, src net.HardwareAddr, body []byte) []byte {
	f := append(append([]byte{}, dst...), src...)
	return append(append(f, 0x08, 0x00), body...)
}
