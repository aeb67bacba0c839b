// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/sandbox"
)

// arrives sends a packet of the attacker and returns the frame that bears the
// text at the tap.
func (w *watch) arrives(d datagram, tap, text string) []byte {
	w.t.Helper()
	w.send(d)
	f, err := w.taps[tap].Receive(soon, func(f []byte) bool { return bytes.Contains(f, []byte(text)) })
	if err != nil {
		w.t.Fatalf("%s does not come out at %s: %v", text, tap, err)
	}
	return f
}

// The first datagram to a pod that was just added must not be lost.
func TestPodHearsFromItsFirstMoment(t *testing.T) {
	n := startNode(t)
	client := n.pod("client")
	for i := range 12 {
		p := n.pod(fmt.Sprintf("new-%d", i))
		serve(t, p, 8080)
		for family := range 2 {
			reaches(t, client.NS, "udp", addrs(p)[1-family], 8080)
		}
	}
}

func TestHopsAndSumsBetweenPods(t *testing.T) {
	w := startWatch(t)
	onBoth(t, func(t *testing.T, family int) {
		for _, ttl := range []byte{2, 3, 64, 128, 255} {
			for _, options := range [][]byte{nil, {1, 1, 1, 0}} {
				text := fmt.Sprintf("hops %d of %d, %d", ttl, family, len(options))
				d := w.plain(family, text)
				d.ttl, d.id = ttl, uint16(ttl)<<8
				if family == 0 {
					d.options = options
				}
				checkFrame(t, w.arrives(d, "victim", text), d, w)
			}
		}
	})
}

// checkFrame compares what the victim got with what the attacker sent.
func checkFrame(t *testing.T, f []byte, sent datagram, w *watch) {
	t.Helper()
	if !bytes.Equal(f[:6], w.taps["victim"].MAC) {
		t.Errorf("frame is for %x, want %s", f[:6], w.taps["victim"].MAC)
	}
	at, head := 14+7, 40 // hop limit, and length of the header
	if sent.src.Is4() {
		at, head = 14+8, 20+len(sent.options)
		if sum := onesSum(f[14 : 14+head]); sum != 0 {
			t.Errorf("sum of the IPv4 header is off by %#x", sum)
		}
	}
	if f[at] != sent.ttl-1 {
		t.Errorf("hop limit %d becomes %d", sent.ttl, f[at])
	}
	l4 := f[14+head:]
	if sum := onesSum(pseudo(sent.src, sent.dst, protoUDP, len(l4)), l4); sum != 0 {
		t.Errorf("sum of UDP is off by %#x", sum)
	}
}

func TestTimeExceededReachesTheSender(t *testing.T) {
	w := startWatch(t)
	onBoth(t, func(t *testing.T, family int) {
		for i, dst := range []netip.Addr{addrs(w.victim)[family], worldAddrs()[family]} {
			text := fmt.Sprintf("one hop %d", i)
			d := w.plain(family, text)
			d.dst, d.ttl = dst, 1
			d.body = udpTo(netip.AddrPortFrom(d.src, 33000), netip.AddrPortFrom(dst, 33434), text)
			w.send(d)
			kind := byte(11)
			if family == 1 {
				kind = 3
			}
			if err := w.hearsError(kind, 0, text); err != nil {
				t.Errorf("no Time Exceeded about a packet to %s: %v", dst, err)
			}
			d.ttl = 2 // the way of traceroute: the next probe gets there
			w.arrives(d, []string{"victim", "world"}[i], text)
			kind, code := byte(3), byte(3)
			if family == 1 {
				kind, code = 1, 4
			}
			if err := w.hearsError(kind, code, text); err != nil {
				t.Errorf("no port unreachable from %s: %v", dst, err)
			}
		}
	})
}

// hearsError waits for an ICMP error at the attacker that quotes the text.
func (w *watch) hearsError(kind, code byte, text string) error {
	_, err := w.raw.Receive(soon, func(f []byte) bool {
		at := 14 + 20
		if binary.BigEndian.Uint16(f[12:]) == etherIPv6 {
			at = 14 + 40
		}
		return len(f) > at+8 && f[at] == kind && f[at+1] == code && bytes.Equal(f[:6], w.raw.MAC) &&
			bytes.Contains(f, []byte(text))
	})
	return err
}

const (
	ethtoolRxSum = 0x15 // ETHTOOL_SRXCSUM
	ethtoolTxSum = 0x17 // ETHTOOL_STXCSUM
	ethtoolTSO   = 0x1f // ETHTOOL_STSO
	ethtoolGRO   = 0x2c // ETHTOOL_SGRO
)

// offload sets a feature of a device.
func offload(ns *sandbox.NS, device string, feature uint32, on bool) error {
	value := struct{ cmd, data uint32 }{cmd: feature}
	if on {
		value.data = 1
	}
	return ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		var request struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}
		copy(request.name[:], device)
		request.data = unsafe.Pointer(&value)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
			return fmt.Errorf("setting feature %#x of %s: %w", feature, device, e)
		}
		return nil
	})
}

// carry sends so many bytes over TCP and compares the hashes of both ends.
func carry(from, to *sandbox.NS, addr netip.Addr, size int64) error {
	ln, err := to.Listen("tcp", hostPort(addr, 0))
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	type result struct {
		sum []byte
		n   int64
		err error
	}
	got := make(chan result, 1)
	go func() { // ends with the connection, or with the listener
		conn, err := ln.Accept()
		if err != nil {
			got <- result{err: err}
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(deadline(3 * soon))
		h := sha256.New()
		n, err := io.Copy(h, conn)
		got <- result{h.Sum(nil), n, err}
	}()
	conn, err := from.Dial("tcp", ln.Addr().String(), soon)
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = pour(conn, sum, size)
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("sending: %w", err)
	}
	r := <-got
	if r.err != nil || r.n != size || !bytes.Equal(r.sum, sum.Sum(nil)) {
		return fmt.Errorf("%d of %d bytes came, with hash %x, want %x: %w", r.n, size, r.sum, sum.Sum(nil), r.err)
	}
	return nil
}

// pour writes random bytes into the connection and the hash.
func pour(conn net.Conn, sum hash.Hash, size int64) error {
	if err := conn.SetDeadline(deadline(3 * soon)); err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	if _, err := rand.Read(buf); err != nil {
		return err
	}
	for left := size; left > 0; {
		n := min(left, int64(len(buf)))
		binary.BigEndian.PutUint64(buf, uint64(left))
		sum.Write(buf[:n])
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

func TestLargeTransfersAreIntact(t *testing.T) {
	n := startNode(t)
	a, b := n.pod("a"), n.pod("b")
	ends := map[string]*sandbox.NS{"pod": b.NS, "world": n.world, "host": sandbox.Host()}
	onBoth(t, func(t *testing.T, family int) {
		for name, size := range map[string]int64{"pod": 120 << 20, "world": 16 << 20, "host": 16 << 20} {
			to := map[string]netip.Addr{"pod": addrs(b)[family], "world": worldAddrs()[family], "host": hostAddrs()[family]}[name]
			if err := carry(a.NS, ends[name], to, size); err != nil {
				t.Errorf("from a pod to %s: %v", name, err)
			}
			if err := carry(ends[name], a.NS, addrs(a)[family], size/4); err != nil {
				t.Errorf("to a pod from %s: %v", name, err)
			}
		}
	})
	// With its help off, each end makes and checks the sums of every packet itself.
	for _, step := range []struct {
		what    string
		ns      *sandbox.NS
		feature uint32
	}{
		{"receiver's sums by itself", b.NS, ethtoolRxSum}, {"receiver without GRO", b.NS, ethtoolGRO},
		{"sender without TSO", a.NS, ethtoolTSO}, {"sender's sums by itself", a.NS, ethtoolTxSum},
	} {
		ok(t, offload(step.ns, "eth0", step.feature, false))
		onBoth(t, func(t *testing.T, family int) {
			if err := carry(a.NS, b.NS, addrs(b)[family], 16<<20); err != nil {
				t.Errorf("%s: %v", step.what, err)
			}
			if err := carry(b.NS, a.NS, addrs(a)[family], 4<<20); err != nil {
				t.Errorf("%s, back: %v", step.what, err)
			}
		})
	}
}

// A datagram that the device is to cut (UDP_SEGMENT) counts and arrives as what
// it becomes.
func TestSegmentedDatagramsArrive(t *testing.T) {
	n := startNode(t)
	a, b := n.pod("a"), n.pod("b")
	const size, count = 1200, 20
	onBoth(t, func(t *testing.T, family int) {
		for _, sums := range []bool{true, false} {
			ok(t, offload(b.NS, "eth0", ethtoolRxSum, sums))
			server, err := b.NS.ListenPacket("udp", hostPort(addrs(b)[family], 9000))
			ok(t, err)
			conn, err := a.NS.Dial("udp", server.LocalAddr().String(), soon)
			ok(t, err)
			rc, err := conn.(*net.UDPConn).SyscallConn()
			ok(t, err)
			ok(t, rc.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
			}))
			ok(t, err)
			want := make([]byte, size*count)
			_, _ = rand.Read(want)
			_, err = conn.Write(want)
			ok(t, err)
			var got []byte
			buf := make([]byte, 64<<10)
			ok(t, server.SetReadDeadline(deadline(soon)))
			for len(got) < len(want) {
				k, _, err := server.ReadFrom(buf)
				ok(t, err)
				if k != size {
					t.Errorf("datagram of %d bytes, want %d", k, size)
				}
				got = append(got, buf[:k]...)
			}
			if !bytes.Equal(got, want) {
				t.Error("other bytes came than were sent")
			}
			ok(t, errors.Join(conn.Close(), server.Close()))
		}
	})
}
