// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Packet is a datagram.
type Packet struct {
	From, To netip.AddrPort
	Payload  string
}

// Frame is what is sent. Inner, if it has addresses, is carried in VXLAN by Outer, with
// the number VNI.
type Frame struct {
	// How: "udp" and "message", by a socket as anybody has it, connected or not; "raw", by one that makes its own UDP
	// header; "device", with all headers, also the sender's address, by Device to MAC.
	How         string
	Device, MAC string
	Outer       Packet
	VNI         uint32
	Inner       Packet
	Times       int // 0: once
}

// send sends it as often as it says.
func (f Frame) send() error {
	for range max(1, f.Times) {
		if err := f.once(); err != nil {
			return err
		}
	}
	return nil
}

func (f Frame) once() error {
	payload := []byte(f.Outer.Payload)
	if f.Inner.To.IsValid() {
		payload = vxlan(f.VNI, f.Inner.ip())
	}
	switch f.How {
	case "udp":
		conn, err := net.Dial("udp", f.Outer.To.String())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.Write(payload)
		return err
	case "message":
		conn, err := net.ListenPacket("udp", ":0")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.WriteTo(payload, net.UDPAddrFromAddrPort(f.Outer.To))
		return err
	case "raw":
		return f.raw(payload)
	case "device":
		p := f.Outer
		p.Payload = string(payload)
		return f.device(p.ip())
	}
	return fmt.Errorf("no way to send: %q", f.How)
}

func (f Frame) raw(payload []byte) error {
	domain := unix.AF_INET
	var to unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(f.Outer.To.Addr())}
	if f.Outer.To.Addr().Is6() {
		domain = unix.AF_INET6
		to = &unix.SockaddrInet6{Addr: f.Outer.To.Addr().As16()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return fmt.Errorf("opening a raw socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	p := f.Outer
	p.Payload = string(payload)
	return unix.Sendto(fd, p.udp(), 0, to)
}

func (f Frame) device(ip []byte) error {
	dev, err := net.InterfaceByName(f.Device)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(f.MAC)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Sendto(fd, ethernet(mac, dev.HardwareAddr, ip), 0, &unix.SockaddrLinklayer{Ifindex: dev.Index})
}

func ethernet(to, from net.HardwareAddr, ip []byte) []byte {
	proto := []byte{0x08, 0x00}
	if ip[0]>>4 == 6 {
		proto = []byte{0x86, 0xdd}
	}
	return append(append(append(append([]byte{}, to...), from...), proto...), ip...)
}

// vxlan is a header of RFC 7348 before an Ethernet frame to anybody.
func vxlan(vni uint32, ip []byte) []byte {
	head := []byte{0x08, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0} //nolint:gosec // 24 bits
	any := net.HardwareAddr{0x0a, 0, 0, 0, 0, 1}
	return append(head, ethernet(any, net.HardwareAddr{0x0a, 0, 0, 0, 0, 2}, ip)...)
}

func (p Packet) udp() []byte {
	length := 8 + len(p.Payload)
	b := binary.BigEndian.AppendUint16(nil, p.From.Port())
	b = binary.BigEndian.AppendUint16(b, p.To.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(length)) //nolint:gosec // small
	b = append(append(b, 0, 0), p.Payload...)
	pseudo := append(p.From.Addr().AsSlice(), p.To.Addr().AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(append(pseudo, 0, unix.IPPROTO_UDP), uint32(length)) //nolint:gosec // small
	if check := sum(append(pseudo, b...)); p.From.IsValid() && check != 0 {
		binary.BigEndian.PutUint16(b[6:], check)
	}
	return b
}

// ip is the packet with its IP header.
func (p Packet) ip() []byte {
	udp := p.udp()
	var b []byte
	if p.To.Addr().Is6() {
		b = []byte{0x60, 0, 0, 0}
		b = binary.BigEndian.AppendUint16(b, uint16(len(udp))) //nolint:gosec // small
		b = append(b, unix.IPPROTO_UDP, 60)
	} else {
		b = []byte{0x45, 0}
		b = binary.BigEndian.AppendUint16(b, uint16(20+len(udp))) //nolint:gosec // small
		b = append(b, 0, 1, 0, 0, 60, unix.IPPROTO_UDP, 0, 0)
	}
	head := len(b)
	b = append(append(b, p.From.Addr().AsSlice()...), p.To.Addr().AsSlice()...)
	if head == 12 {
		binary.BigEndian.PutUint16(b[10:], sum(b))
	}
	return append(b, udp...)
}
