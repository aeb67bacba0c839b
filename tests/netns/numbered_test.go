// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/sandbox"
)

// Ports of the flows here; the policies of the tests allow them.
const (
	oneWayPort   = 7000
	answeredPort = 7001
	quietPort    = 7002
)

// numbered is a stream of numbered datagrams at 250 a second, whose receiver
// knows which are missing. With answers each is sent back and counted again.
type numbered struct {
	from, to net.PacketConn
	dst      net.Addr
	answers  bool
	quit     chan struct{}
	sender   sync.WaitGroup
	mu       sync.Mutex
	sent     uint64
	err      error           // of sending
	there    map[uint64]bool // numbers received
	back     map[uint64]bool // numbers that came back
}

func startNumbered(t *testing.T, from, to *sandbox.NS, addr netip.Addr, answers bool) *numbered {
	t.Helper()
	c := &numbered{answers: answers, quit: make(chan struct{}), there: map[uint64]bool{}, back: map[uint64]bool{}}
	port := uint16(oneWayPort)
	if answers {
		port = answeredPort
	}
	var err error
	c.to, err = to.ListenPacket("udp", hostPort(addr, port))
	ok(t, err)
	t.Cleanup(func() { c.to.Close() })
	c.from, err = from.ListenPacket("udp", ":0")
	ok(t, err)
	t.Cleanup(func() { c.from.Close() })
	for _, pc := range []net.PacketConn{c.from, c.to} {
		ok(t, deepBuffer(pc))
	}
	c.dst = c.to.LocalAddr()
	c.sender.Add(1)
	go c.send()                          // until stop
	go c.receive(c.to, c.there, answers) // until the sockets are closed
	go c.receive(c.from, c.back, false)
	return c
}

// deepBuffer lets a receiver that gets no processor for seconds lose nothing.
func deepBuffer(pc net.PacketConn) error {
	raw, err := pc.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	}); err != nil {
		return err
	}
	return inner
}

func (c *numbered) send() {
	defer c.sender.Done()
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		_, err := c.from.WriteTo(binary.BigEndian.AppendUint64(nil, n), c.dst)
		c.mu.Lock()
		if c.sent = n + 1; err != nil && c.err == nil {
			c.err = fmt.Errorf("sending datagram %d: %w", n, err)
		}
		c.mu.Unlock()
		select {
		case <-c.quit:
			return
		case <-tick.C:
		}
	}
}

func (c *numbered) receive(pc net.PacketConn, seen map[uint64]bool, answer bool) {
	buf := make([]byte, 64)
	for {
		n, peer, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		if n != 8 {
			continue
		}
		c.mu.Lock()
		seen[binary.BigEndian.Uint64(buf)] = true
		c.mu.Unlock()
		if answer {
			_, _ = pc.WriteTo(buf[:n], peer) // one that fails is missing at the end
		}
	}
}

// seen is how many numbers have made the whole way.
func (c *numbered) seen() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers {
		return uint64(len(c.back))
	}
	return uint64(len(c.there))
}

// stop ends the stream; numbers that are missing are an error.
func (c *numbered) stop(t *testing.T) error {
	close(c.quit)
	c.sender.Wait()
	if err := sandbox.Eventually(t.Context(), 5*time.Second, "every datagram", func() error { return c.missing() }); err != nil {
		return err
	}
	return c.err
}

func (c *numbered) missing() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var there, back []uint64
	for n := range c.sent {
		if !c.there[n] {
			there = append(there, n)
		} else if c.answers && !c.back[n] {
			back = append(back, n)
		}
	}
	if len(there)+len(back) > 0 {
		return fmt.Errorf("of %d datagrams %d did not arrive %v, of %d no answer came back %v", c.sent,
			len(there), there[:min(10, len(there))], len(back), back[:min(10, len(back))])
	}
	return nil
}

// quietFlow is an open flow on which only that side speaks that may not open
// one: it passes as long as the kernel knows the flow.
type quietFlow struct {
	speakUp  func(b []byte) error
	hear     net.Conn
	patience time.Duration // of the side that hears
	closers  []func() error
}

func startQuiet(t *testing.T, network string, from, to *sandbox.NS, addr netip.Addr) *quietFlow {
	t.Helper()
	q := &quietFlow{patience: requestTimeout}
	t.Cleanup(q.close)
	if network == "udp" {
		q.openUDP(t, from, to, addr)
	} else {
		q.openTCP(t, from, to, addr)
	}
	ok(t, q.speak())
	return q
}

func (q *quietFlow) openTCP(t *testing.T, from, to *sandbox.NS, addr netip.Addr) {
	t.Helper()
	ln, err := to.Listen("tcp", hostPort(addr, quietPort))
	ok(t, err)
	defer ln.Close()
	q.hear, err = from.Dial("tcp", hostPort(addr, quietPort), requestTimeout)
	ok(t, err)
	conn, err := ln.Accept()
	ok(t, err)
	q.closers = append(q.closers, q.hear.Close, conn.Close)
	q.speakUp = func(b []byte) error { _, err := conn.Write(b); return err }
}

func (q *quietFlow) openUDP(t *testing.T, from, to *sandbox.NS, addr netip.Addr) {
	t.Helper()
	pc, err := to.ListenPacket("udp", hostPort(addr, quietPort))
	ok(t, err)
	q.closers = append(q.closers, pc.Close)
	q.hear, err = from.Dial("udp", hostPort(addr, quietPort), requestTimeout)
	ok(t, err)
	q.closers = append(q.closers, q.hear.Close)
	_, err = q.hear.Write([]byte("?"))
	ok(t, err)
	ok(t, pc.SetReadDeadline(time.Now().Add(requestTimeout)))
	_, peer, err := pc.ReadFrom(make([]byte, 8))
	ok(t, err)
	q.speakUp = func(b []byte) error { _, err := pc.WriteTo(b, peer); return err }
}

// speak sends one byte from the side that may not open flows.
func (q *quietFlow) speak() error {
	if err := q.speakUp([]byte("!")); err != nil {
		return err
	}
	if err := q.hear.SetReadDeadline(time.Now().Add(q.patience)); err != nil {
		return err
	}
	_, err := q.hear.Read(make([]byte, 8))
	return err
}

func (q *quietFlow) close() {
	for _, f := range q.closers {
		_ = f()
	}
	q.closers = nil
}
