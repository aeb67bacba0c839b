// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Ping sends one ICMP echo request from ns and waits for its answer.
func Ping(ns *NS, ip string, timeout time.Duration) error {
	dst, err := netip.ParseAddr(ip)
	if err != nil {
		return fmt.Errorf("pinging: %w", err)
	}
	network, listen, proto := "ip4:icmp", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if dst.Is6() {
		network, listen, proto = "ip6:ipv6-icmp", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var conn *icmp.PacketConn
	if err := ns.Do(func() (err error) { conn, err = icmp.ListenPacket(network, listen); return err }); err != nil {
		return fmt.Errorf("pinging %s: %w", ip, err)
	}
	defer func() { _ = conn.Close() }()
	id := rand.N(1 << 16) // several pings of one namespace hear each other's answers
	msg, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("weft")}}).Marshal(nil)
	if err != nil {
		return fmt.Errorf("pinging %s: %w", ip, err)
	}
	if _, err := conn.WriteTo(msg, &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()}); err != nil {
		return fmt.Errorf("pinging %s: %w", ip, err)
	}
	return awaitReply(conn, proto, reply, id, dst, timeout)
}

func awaitReply(conn *icmp.PacketConn, proto int, want icmp.Type, id int, from netip.Addr, timeout time.Duration) error {
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("no answer to ping from %s: %w", from, err)
		}
		msg, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || msg.Type != want {
			continue
		}
		echo, ok := msg.Body.(*icmp.Echo)
		if ok && echo.ID == id && peer.(*net.IPAddr).IP.Equal(from.AsSlice()) {
			return nil
		}
	}
}

// Raw sends and receives whole Ethernet frames on one device.
type Raw struct {
	fd      int
	IfIndex int
	MAC     net.HardwareAddr
}

// OpenRaw opens a packet socket on a device of the namespace.
func OpenRaw(ns *NS, device string) (*Raw, error) {
	r := &Raw{}
	err := ns.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		r.IfIndex, r.MAC = ifi.Index, ifi.HardwareAddr
		r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		return unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: ifi.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s of %s: %w", device, ns.Name, err)
	}
	return r, nil
}

// Close closes the socket.
func (r *Raw) Close() { _ = unix.Close(r.fd) }

// Send puts one frame on the device, as it is.
func (r *Raw) Send(frame []byte) error {
	if err := unix.Sendto(r.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: r.IfIndex}); err != nil {
		return fmt.Errorf("sending a raw frame: %w", err)
	}
	return nil
}

// Receive returns the first frame that match accepts, what the device itself
// sends included, or os.ErrDeadlineExceeded.
func (r *Raw) Receive(timeout time.Duration, match func(frame []byte) bool) ([]byte, error) {
	deadline := time.Now().Add(timeout)
	buf := make([]byte, 64<<10)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, fmt.Errorf("receiving raw frames: %w", err)
		}
		n, _, err := unix.Recvfrom(r.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("receiving raw frames: %w", err)
		case match(buf[:n]):
			return buf[:n], nil
		}
	}
}

func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
