// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// LoopConfig says what a Loop asks, and how often.
type LoopConfig struct {
	NS      *NS
	Network string // tcp, udp, tcp4 …
	Addr    string
	Every   time.Duration // from the start of one request to the start of the next
	Timeout time.Duration // of one request
	Fresh   bool          // a new connection for each request
}

// Failure is one request that got no answer.
type Failure struct {
	At  time.Time
	Err error
}

// Report is what a Loop has seen so far.
type Report struct {
	Done   int // requests answered
	Failed []Failure
	Last   time.Time     // of the last answer
	Gap    time.Duration // longest time between two answers
}

// Loop asks an Echo again and again and counts what fails.
type Loop struct {
	cfg  LoopConfig
	stop chan struct{}
	done chan struct{}
	mu   sync.Mutex
	rep  Report
}

// StartLoop asks until Stop.
func StartLoop(cfg LoopConfig) *Loop {
	l := &Loop{cfg: cfg, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run() // ended by Stop
	return l
}

// Stop ends the loop and returns its report.
func (l *Loop) Stop() Report {
	close(l.stop)
	<-l.done
	return l.Report()
}

// Report is what has been seen so far.
func (l *Loop) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rep
	r.Failed = slices.Clone(l.rep.Failed)
	return r
}

func (l *Loop) run() {
	defer close(l.done)
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	var conn net.Conn
	for {
		var err error
		conn, err = l.ask(conn)
		l.note(err)
		select {
		case <-l.stop:
			if conn != nil {
				_ = conn.Close()
			}
			return
		case <-tick.C:
		}
	}
}

// ask makes one request and returns the connection to use for the next, if any.
func (l *Loop) ask(conn net.Conn) (net.Conn, error) {
	if conn == nil {
		c, err := l.cfg.NS.Dial(l.cfg.Network, l.cfg.Addr, l.cfg.Timeout)
		if err != nil {
			return nil, err
		}
		conn = c
	}
	_, err := AskOn(conn, "ping", l.cfg.Timeout)
	if err != nil || l.cfg.Fresh {
		_ = conn.Close()
		conn = nil
	}
	return conn, err
}

func (l *Loop) note(err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.rep.Failed = append(l.rep.Failed, Failure{At: now, Err: err})
		return
	}
	if !l.rep.Last.IsZero() {
		l.rep.Gap = max(l.rep.Gap, now.Sub(l.rep.Last))
	}
	l.rep.Done++
	l.rep.Last = now
}

// Stream is one long transfer over one TCP connection to an Echo: it writes as
// fast as what comes back is read.
type Stream struct {
	conn   net.Conn
	echoed atomic.Uint64
	err    atomic.Pointer[error]
	wg     sync.WaitGroup
}

// streamLine is one line of a Stream, without its line feed; 32 KiB.
const streamLine = 32 << 10

// StartStream transfers until Stop or an error.
func StartStream(ns *NS, addr string) (*Stream, error) {
	conn, err := ns.Dial("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("starting a transfer: %w", err)
	}
	s := &Stream{conn: conn}
	s.wg.Add(2)
	go s.write() // both end with the connection
	go s.read()
	return s, nil
}

// Echoed is the number of bytes that came back.
func (s *Stream) Echoed() uint64 { return s.echoed.Load() }

// Err is why the transfer ended, or nil while it goes on.
func (s *Stream) Err() error {
	if p := s.err.Load(); p != nil {
		return *p
	}
	return nil
}

// Stop ends the transfer and returns the bytes that came back.
func (s *Stream) Stop() uint64 {
	_ = s.conn.Close()
	s.wg.Wait()
	return s.Echoed()
}

func (s *Stream) write() {
	defer s.wg.Done()
	line := append(bytes.Repeat([]byte("w"), streamLine), '\n')
	for {
		if _, err := s.conn.Write(line); err != nil {
			s.err.CompareAndSwap(nil, &err)
			return
		}
	}
}

func (s *Stream) read() {
	defer s.wg.Done()
	r := bufio.NewReaderSize(s.conn, 2*streamLine)
	for {
		line, err := r.ReadSlice('\n')
		if err == nil && len(line) < streamLine {
			err = fmt.Errorf("line of %d bytes came back, want %d", len(line), streamLine)
		}
		if err != nil {
			s.err.CompareAndSwap(nil, &err)
			return
		}
		s.echoed.Add(uint64(len(line)))
	}
}
