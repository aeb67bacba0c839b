// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// talk is one connection, or flow of datagrams, that stays open.
type talk struct {
	probe
	conn  net.Conn
	asked int
	heard string
}

// talks opens a talk for each probe of the text and has each answered once.
func (w *town) talks(t *testing.T, text string) []*talk {
	t.Helper()
	var out []*talk
	for _, p := range w.probes(t, text) {
		c := &talk{probe: p}
		var err error
		c.conn, err = p.from.ns.Dial(p.network, hostPort(p.to.addrs[p.family], p.port), soon)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		t.Cleanup(func() { _ = c.conn.Close() })
		out = append(out, c)
	}
	goOn(t, out, "at first")
	return out
}

// ask puts a new question and waits for its answer. What was asked before and
// is sent again by TCP may be answered first.
func (c *talk) ask(timeout time.Duration) error {
	c.asked++
	question := fmt.Sprintf("q%d.", c.asked)
	end := ""
	if c.network == "tcp" {
		end = "\n"
	}
	deadline := time.Now().Add(timeout)
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte(question + end)); err != nil {
		return err
	}
	buf := make([]byte, 4<<10)
	for !strings.Contains(c.heard, question) {
		n, err := c.conn.Read(buf)
		if err != nil {
			return err
		}
		c.heard += string(buf[:n])
	}
	return nil
}

// goOn fails unless each talk is answered.
func goOn(t *testing.T, talks []*talk, when string) {
	t.Helper()
	for i, err := range askAll(talks, soon) {
		if err != nil {
			t.Errorf("%s ends %s: %v", talks[i], when, err)
		}
	}
}

// areCut fails unless no talk is answered, at the first question.
func areCut(t *testing.T, talks []*talk, when string) {
	t.Helper()
	for i, err := range askAll(talks, silence) {
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s is not silenced %s: %v", talks[i], when, err)
		}
	}
}

// comeBack fails unless each talk that was cut is answered again; datagrams that
// were dropped are asked anew.
func comeBack(t *testing.T, talks []*talk, when string) {
	t.Helper()
	goOn(t, talks, when)
}

func askAll(talks []*talk, timeout time.Duration) []error {
	results := make([]chan error, len(talks))
	for i, c := range talks {
		results[i] = make(chan error, 1)
		go func() { results[i] <- c.ask(timeout) }() // ends at the timeout
	}
	out := make([]error, len(talks))
	for i := range talks {
		out[i] = <-results[i]
	}
	return out
}

// transfers starts a transfer for each probe of the text.
func (w *town) transfers(t *testing.T, text string) []*sandbox.Stream {
	t.Helper()
	var out []*sandbox.Stream
	for _, p := range w.probes(t, text) {
		s, err := sandbox.StartStream(sandbox.StreamConfig{NS: p.from.ns,
			Addr: hostPort(p.to.addrs[p.family], p.port), Every: time.Millisecond})
		ok(t, err)
		t.Cleanup(func() { s.Stop() })
		out = append(out, s)
	}
	return out
}

// moves waits until the transfer has got further, and fails if it has ended.
func moves(t *testing.T, s *sandbox.Stream, when string) {
	t.Helper()
	start := s.Progress().Echoed
	ok(t, sandbox.Eventually(t.Context(), soon, "a transfer that goes on "+when, func() error {
		if p := s.Progress(); p.Err != nil || p.Echoed < start+(128<<10) {
			return fmt.Errorf("%d bytes since, error %w", p.Echoed-start, errors.Join(errors.New("too little"), p.Err))
		}
		return nil
	}))
}

// end is one end of a connection and all that it has heard.
type end struct {
	net.Conn
	heard string
}

// connection opens a TCP connection of which both ends are the test's.
func (w *town) connection(t *testing.T, from, to *place, family int) (client, server *end) {
	t.Helper()
	ln, err := to.ns.Listen("tcp", hostPort(to.addrs[family], 0))
	ok(t, err)
	defer func() { _ = ln.Close() }()
	near, err := from.ns.Dial("tcp", ln.Addr().String(), soon)
	ok(t, err)
	t.Cleanup(func() { _ = near.Close() })
	distant, err := ln.Accept()
	ok(t, err)
	t.Cleanup(func() { _ = distant.Close() })
	return &end{Conn: near}, &end{Conn: distant}
}

// says fails unless what one end says gets to the other.
func says(t *testing.T, from, to *end, what string) {
	t.Helper()
	_, err := from.Write([]byte(what))
	ok(t, err)
	hears(t, to, to.heard+what)
}

// hears waits until an end has heard all of what, and nothing else.
func hears(t *testing.T, to *end, what string) {
	t.Helper()
	ok(t, to.SetReadDeadline(time.Now().Add(soon)))
	buf := make([]byte, 1<<10)
	for len(to.heard) < len(what) {
		n, err := to.Read(buf)
		if err != nil {
			t.Fatalf("heard %q, want %q: %v", to.heard, what, err)
		}
		to.heard += string(buf[:n])
	}
	if to.heard != what {
		t.Fatalf("heard %q, want %q", to.heard, what)
	}
}

// unheard fails if what one end says gets to the other, now or by retransmission.
func unheard(t *testing.T, from, to *end, what string) {
	t.Helper()
	_, err := from.Write([]byte(what))
	ok(t, err)
	ok(t, to.SetReadDeadline(time.Now().Add(2*silence)))
	buf := make([]byte, 1<<10)
	if n, err := to.Read(buf); err == nil {
		to.heard += string(buf[:n])
		t.Errorf("forbidden, but heard: %q", buf[:n])
	}
}
