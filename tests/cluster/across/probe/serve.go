// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A TCP connection begins with the number of bytes that follow, 8 bytes; the answer is a
// line: who answers, whom it sees, and the sum of what came. A datagram comes back behind
// such a line, with the sum of what was in it.

// server answers, and counts who came.
type server struct {
	name string
	mu   sync.Mutex
	seen map[string]int // "tcp 7001 10.244.0.9" → how often; "udp …"; a mark → datagrams that begin with it
}

// marks begin datagrams that are counted and not answered: those that nobody should
// receive, and those of a sprayer that may.
func marks() []string { return []string{"forged", "welcome"} }

func newServer(name string) *server { return &server{name: name, seen: make(map[string]int)} }

func (s *server) run() error {
	errs := make(chan error, 2*ports+1)
	var config net.ListenConfig
	ctx := context.Background()
	for port := firstPort; port < firstPort+ports; port++ {
		address := ":" + strconv.Itoa(port)
		udp, err := config.ListenPacket(ctx, "udp", address)
		if err != nil {
			return err
		}
		tcp, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		go func() { errs <- s.datagrams(port, udp) }()
		go func() { errs <- s.connections(port, tcp) }()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/try", tell(func(body []Attempt) any { return tryAll(body) }))
	mux.HandleFunc("/send", tell(func(f Frame) any { return answerOf(f.send()) }))
	mux.HandleFunc("/seen", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.seen)
	})
	tells := &http.Server{Addr: ":" + strconv.Itoa(tellPort), Handler: mux, ReadHeaderTimeout: askFor}
	go func() { errs <- tells.ListenAndServe() }()
	return <-errs
}

// tell decodes what is asked and encodes what is answered.
func tell[T any](do func(T) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(do(body))
	}
}

func (s *server) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[what]++
}

func hostOf(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return at.Addr().Unmap().String()
}

func (s *server) connections(port int, l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		s.note(fmt.Sprintf("tcp %d %s", port, hostOf(conn.RemoteAddr())))
		go s.connection(conn) // ends with the connection
	}
}

func (s *server) connection(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(askFor))
	r := bufio.NewReaderSize(conn, 1<<16)
	var size uint64
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, r, int64(size)); err != nil { //nolint:gosec // what tests ask for
		return
	}
	_, _ = fmt.Fprintf(conn, "%s %s %08x\n", s.name, hostOf(conn.RemoteAddr()), sum.Sum32())
}

func (s *server) datagrams(port int, conn net.PacketConn) error {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			continue // an ICMP error about an answer
		}
		s.note(fmt.Sprintf("udp %d %s", port, hostOf(from)))
		if i := slices.IndexFunc(marks(), func(m string) bool { return bytes.HasPrefix(buf[:n], []byte(m)) }); i >= 0 {
			s.note(marks()[i])
			continue
		}
		line := fmt.Appendf(nil, "%s %s %08x\n", s.name, hostOf(from), crc32.ChecksumIEEE(buf[:n]))
		_, _ = conn.WriteTo(append(line, buf[:n]...), from)
	}
}
