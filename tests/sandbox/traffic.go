// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Echo answers each line, or datagram, with its own name before it: over TCP
// and UDP, IPv4 and IPv6, on one port of a namespace.
type Echo struct {
	name  string
	tcp   net.Listener
	udp   net.PacketConn
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	took  int // connections, ever
}

// StartEcho serves until Close.
func StartEcho(ns *NS, name string, port uint16) (*Echo, error) {
	addr := ":" + strconv.Itoa(int(port))
	ln, err := ns.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serving %s: %w", name, err)
	}
	pc, err := ns.ListenPacket("udp", addr)
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("serving %s: %w", name, err)
	}
	e := &Echo{name: name, tcp: ln, udp: pc, conns: make(map[net.Conn]struct{})}
	go e.serveTCP() // both end when Close closes their sockets
	go e.serveUDP()
	return e, nil
}

// Close stops serving and resets the open connections.
func (e *Echo) Close() {
	_ = e.tcp.Close()
	_ = e.udp.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Accepted counts the TCP connections so far.
func (e *Echo) Accepted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.took
}

func (e *Echo) serveTCP() {
	for {
		conn, err := e.tcp.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		e.conns[conn] = struct{}{}
		e.took++
		e.mu.Unlock()
		go e.serveConn(conn) // ends when either side closes
	}
}

func (e *Echo) serveConn(conn net.Conn) {
	defer func() {
		_ = conn.Close()
		e.mu.Lock()
		delete(e.conns, conn)
		e.mu.Unlock()
	}()
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 128<<10), 128<<10)
	for lines.Scan() {
		if _, err := fmt.Fprintf(conn, "%s %s\n", e.name, lines.Bytes()); err != nil {
			return
		}
	}
}

func (e *Echo) serveUDP() {
	buf := make([]byte, 64<<10)
	for {
		n, peer, err := e.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = e.udp.WriteTo([]byte(e.name+" "+string(buf[:n])), peer)
		}
	}
}

// Ask opens a connection from ns, asks one question and returns the answer. A
// question has no line feed in it.
func Ask(ns *NS, network, addr, question string, timeout time.Duration) (string, error) {
	conn, err := ns.Dial(network, addr, timeout)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return AskOn(conn, question, timeout)
}

// AskOn asks on an open connection.
func AskOn(conn net.Conn, question string, timeout time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	stream := !strings.HasPrefix(conn.RemoteAddr().Network(), "udp")
	if stream {
		question += "\n"
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return "", err
	}
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		// A long answer over TCP comes in as many reads as it has segments.
		got, err := conn.Read(buf[n:])
		if err != nil {
			return "", err
		}
		if n += got; !stream || buf[n-1] == '\n' || n == len(buf) {
			return strings.TrimSuffix(string(buf[:n]), "\n"), nil
		}
	}
}
