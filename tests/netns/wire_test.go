// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// What TEST_RUN cannot show: large segments, checksums left to the device,
// fragments and errors made by real stacks.
func TestRealTraffic(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server")
	sum := serveSum(t, server, 9000)
	serve(t, server, 8080)
	onBoth(t, func(t *testing.T, family int) {
		to := addrs(server)[family]
		for _, from := range []*sandbox.NS{client.NS, sandbox.Host()} {
			transfer(t, from, to, sum)
			bigDatagram(t, from, to, 8080)
			refused(t, from, to)
		}
	})
}

// serveSum answers a connection with the sum of all that it was sent.
func serveSum(t *testing.T, p *sandbox.Pod, port uint16) uint16 {
	t.Helper()
	l, err := p.NS.Listen("tcp", fmt.Sprintf(":%d", port))
	ok(t, err)
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() { // ends when the listener closes
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h := sha256.New()
			_, _ = io.Copy(h, conn)
			_, _ = conn.Write(h.Sum(nil))
			_ = conn.Close()
		}
	}()
	return port
}

// transfer sends 16 MiB and compares what arrived.
func transfer(t *testing.T, from *sandbox.NS, to netip.Addr, port uint16) {
	t.Helper()
	conn, err := from.Dial("tcp", hostPort(to, port), answer)
	if err != nil {
		t.Errorf("%s to %s: %v", from.Name, to, err)
		return
	}
	defer conn.Close()
	ok(t, conn.SetDeadline(time.Now().Add(soon)))
	h := sha256.New()
	for i := range 256 {
		block := bytes.Repeat([]byte{byte(i), 7, byte(i >> 1)}, 64<<10/3)
		h.Write(block)
		if _, err := conn.Write(block); err != nil {
			t.Errorf("%s to %s: sending: %v", from.Name, to, err)
			return
		}
	}
	ok(t, conn.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, h.Sum(nil)) {
		t.Errorf("%s to %s: what arrived differs, or: %v", from.Name, to, err)
	}
}

// bigDatagram asks for an echo of what only fits into a dozen of fragments.
func bigDatagram(t *testing.T, from *sandbox.NS, to netip.Addr, port uint16) {
	t.Helper()
	if _, err := sandbox.Ask(from, "udp", hostPort(to, port), string(bytes.Repeat([]byte("x"), 16000)), answer); err != nil {
		t.Errorf("%s to %s: datagram in fragments: %v", from.Name, to, err)
	}
}

// refused expects the error that the receiver's stack sends for a closed port.
func refused(t *testing.T, from *sandbox.NS, to netip.Addr) {
	t.Helper()
	conn, err := from.Dial("udp", hostPort(to, 9), answer)
	ok(t, err)
	defer conn.Close()
	ok(t, conn.SetDeadline(time.Now().Add(answer)))
	_, err = conn.Write([]byte("x"))
	ok(t, err)
	if _, err = conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s to %s: closed port gives %v, want %v", from.Name, to, err, syscall.ECONNREFUSED)
	}
}
