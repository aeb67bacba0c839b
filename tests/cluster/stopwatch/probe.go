// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	every = 2 * time.Millisecond
	// silence is how long no answer comes before it is said that there is none: longer
	// than a busy machine takes to answer.
	silence = 150 * time.Millisecond
)

// target is asked over and over from one socket, so that the kernel knows the flow.
type target struct {
	name string
	conn net.Conn
	log  string

	mu       sync.Mutex
	open     bool
	answered int64   // when the latest question was sent that was answered
	waiting  []int64 // when later ones were sent, while open
}

// probe asks until it is ended. It notes NAME open TIME and NAME shut TIME: when the
// first question was sent that was answered again, or was not answered any more.
func probe(log string, args []string) error {
	var all sync.WaitGroup
	for _, a := range args {
		name, address, _ := strings.Cut(a, "=")
		conn, err := net.Dial("udp", address)
		if err != nil {
			return fmt.Errorf("asking %s: %w", name, err)
		}
		t := &target{name: name, conn: conn, log: log}
		all.Go(t.ask)
		all.Go(t.listen)
	}
	all.Wait()
	return nil
}

func (t *target) ask() {
	for range time.Tick(every) {
		var question [8]byte
		at := now()
		binary.BigEndian.PutUint64(question[:], uint64(at)) //nolint:gosec // never negative
		t.sent(at)
		_, _ = t.conn.Write(question[:]) // what is not sent is not answered
	}
}

func (t *target) sent(at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		return
	}
	t.waiting = append(t.waiting, at)
	if first := t.waiting[0]; at-first > silence.Nanoseconds() {
		t.open, t.waiting = false, nil
		t.tell("shut", first)
	}
}

func (t *target) listen() {
	var answer [8]byte
	for {
		if n, err := t.conn.Read(answer[:]); err != nil || n != len(answer) {
			continue // told by ICMP
		}
		t.heard(int64(binary.BigEndian.Uint64(answer[:]))) //nolint:gosec // it was one
	}
}

// heard is an answer to the question that was sent then.
func (t *target) heard(sent int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sent <= t.answered {
		return
	}
	t.answered = sent
	t.waiting = slices.DeleteFunc(t.waiting, func(at int64) bool { return at <= sent })
	if !t.open {
		t.open = true
		t.tell("open", sent)
	}
}

func (t *target) tell(state string, at int64) {
	if err := note(t.log, "%s %s %d", t.name, state, at); err != nil {
		panic(err) // without a log there is no use in going on
	}
}
