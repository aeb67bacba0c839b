// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How often something is sent, and how long an answer may take before it counts as
// lost. TCP repeats what was lost, at first after 200 ms: that shows as a pause.
const (
	every    = 10 * time.Millisecond
	answerIn = 10 * time.Second
	straggle = time.Second
)

// counts are of one target.
type counts struct {
	mu       sync.Mutex
	Sent     int
	Answered int
	Failed   int      // by an error
	PauseMS  int64    // longest time without an answer
	SlowMS   int64    // longest time until a request over HTTP failed
	Errors   []string // the first few

	last time.Time
}

func (c *counts) sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Sent++
}

func (c *counts) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.last.IsZero() {
		c.PauseMS = max(c.PauseMS, now.Sub(c.last).Milliseconds())
	}
	c.last = now
	c.Answered++
}

func (c *counts) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Failed++
	if len(c.Errors) < 5 {
		c.Errors = append(c.Errors, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
	}
}

// lost notes when the first ones were sent that did not come back.
func (c *counts) lost(at []time.Time, seen map[uint64]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number, sent := range at {
		if !seen[uint64(number)] && len(c.Errors) < 20 { //nolint:gosec // never negative
			c.Errors = append(c.Errors, sent.UTC().Format("15:04:05.000")+" not answered")
		}
	}
}

// caller calls all targets until it is told to stop.
type caller struct {
	stop    chan struct{}
	stopped sync.Once
	done    sync.WaitGroup
	targets map[string]*counts
}

func call(args []string) error {
	c := &caller{stop: make(chan struct{}), targets: make(map[string]*counts)}
	for _, a := range args {
		name, rest, _ := strings.Cut(a, "=")
		kind, address, _ := strings.Cut(rest, ",")
		loop := map[string]func(*caller, string, *counts){
			"stream": (*caller).stream, "request": (*caller).request, "datagram": (*caller).datagram, "probe": (*caller).probe,
			"web": (*caller).web, "visit": (*caller).visit, "web2": (*caller).web2}[kind]
		if loop == nil || address == "" {
			return fmt.Errorf("%q: want NAME=KIND,ADDRESS; KIND is stream, request, datagram, probe, web, visit or web2", a)
		}
		count := &counts{}
		c.targets[name] = count
		c.done.Go(func() { loop(c, address, count) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/counts", c.tell)
	mux.HandleFunc("/stop", func(w http.ResponseWriter, r *http.Request) {
		c.stopped.Do(func() { close(c.stop) })
		c.done.Wait()
		c.tell(w, r)
	})
	s := &http.Server{Addr: tellPort, Handler: mux, ReadHeaderTimeout: answerIn}
	return s.ListenAndServe()
}

func (c *caller) tell(w http.ResponseWriter, _ *http.Request) {
	for _, t := range c.targets {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	_ = json.NewEncoder(w).Encode(c.targets)
}

// wait is false when it is time to stop.
func (c *caller) wait(d time.Duration) bool {
	select {
	case <-c.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// exchange sends a number and waits until it is back.
func exchange(conn net.Conn, number int) error {
	var out, in [8]byte
	binary.BigEndian.PutUint64(out[:], uint64(number)) //nolint:gosec // never negative
	_ = conn.SetDeadline(time.Now().Add(answerIn))
	if _, err := conn.Write(out[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, in[:]); err != nil {
		return err
	}
	if in != out {
		return fmt.Errorf("%x came back in the place of %x", in, out)
	}
	return nil
}

// stream keeps one connection; each that ends is a failure, and followed by another.
func (c *caller) stream(address string, n *counts) {
	for c.wait(every) {
		conn, err := net.DialTimeout("tcp", address, answerIn)
		if err != nil {
			n.failed(err)
			continue
		}
		for number := 0; c.wait(every); number++ {
			n.sent()
			if err := exchange(conn, number); err != nil {
				n.failed(err)
				break
			}
			n.answered()
		}
		_ = conn.Close()
	}
}

func (c *caller) request(address string, n *counts) {
	for number := 0; c.wait(2 * every); number++ {
		n.sent()
		conn, err := net.DialTimeout("tcp", address, answerIn)
		if err == nil {
			err = exchange(conn, number)
			_ = conn.Close()
		}
		if err != nil {
			n.failed(err)
			continue
		}
		n.answered()
	}
}

func (c *caller) datagram(address string, n *counts) { c.datagrams(address, n, every) }

// probe is slower, and for many addresses that may be nobody's.
func (c *caller) probe(address string, n *counts) { c.datagrams(address, n, 3*every) }

func (c *caller) datagrams(address string, n *counts, pace time.Duration) {
	conn, err := net.Dial("udp", address)
	if err == nil {
		err = holdMuch(conn)
	}
	if err != nil {
		n.failed(err)
		return
	}
	var reading sync.WaitGroup
	seen := make(map[uint64]bool)
	reading.Go(func() { receive(conn, n, seen) })
	var at []time.Time
	var out [8]byte
	for number := uint64(0); c.wait(pace); number++ {
		binary.BigEndian.PutUint64(out[:], number)
		n.sent()
		at = append(at, time.Now())
		if _, err := conn.Write(out[:]); err != nil {
			n.failed(err)
		}
	}
	// Those that are under way still count.
	_ = conn.SetReadDeadline(time.Now().Add(straggle))
	reading.Wait()
	_ = conn.Close()
	n.lost(at, seen)
}

// receive counts each number once.
func receive(conn net.Conn, n *counts, seen map[uint64]bool) {
	var in [8]byte
	for {
		_, err := conn.Read(in[:])
		if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
			return
		}
		if err != nil { // told by ICMP
			n.failed(err)
			continue
		}
		if number := binary.BigEndian.Uint64(in[:]); !seen[number] {
			seen[number] = true
			n.answered()
		}
	}
}
