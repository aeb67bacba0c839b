// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How often a target is called, by TCP and by UDP, at first and then, and how long a call
// may take.
const (
	callEvery = 20 * time.Millisecond
	atFirst   = 2 * time.Second
	callThen  = 250 * time.Millisecond
	callFor   = 400 * time.Millisecond
)

// Tally is what came of calling a target.
type Tally struct {
	Calls   int
	Passed  int   // calls that were answered
	FirstMS int64 // since the process began: the first answer; -1: none yet
}

// hammerer calls as soon as it runs, and tells what came of it at /tally.
type hammerer struct {
	begun time.Time
	mu    sync.Mutex
	tally map[string]*Tally // "allowed tcp ADDRESS", "forbidden udp ADDRESS"
}

func hammer(name string, targets []string) error {
	h := &hammerer{begun: time.Now(), tally: make(map[string]*Tally)}
	for _, t := range targets {
		kind, address, ok := strings.Cut(t, "=")
		if !ok {
			return fmt.Errorf("%q: want allowed=ADDRESS or forbidden=ADDRESS", t)
		}
		for _, proto := range []string{"tcp", "udp"} {
			key := kind + " " + proto + " " + address
			h.tally[key] = &Tally{FirstMS: -1}
			go h.call(key, proto, address) // ends with the process
		}
	}
	http.HandleFunc("/tally", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		_ = json.NewEncoder(w).Encode(h.tally)
	})
	go func() {
		s := &http.Server{Addr: fmt.Sprintf(":%d", tellPort+1), ReadHeaderTimeout: askFor}
		_ = s.ListenAndServe()
	}()
	return newServer(name).run()
}

func (h *hammerer) call(key, proto, address string) {
	for {
		h.mu.Lock()
		h.tally[key].Calls++
		h.mu.Unlock()
		go func() { // ends after callFor
			if once(proto, address) {
				h.passed(key)
			}
		}()
		if time.Since(h.begun) < atFirst {
			time.Sleep(callEvery)
		} else {
			time.Sleep(callThen)
		}
	}
}

func (h *hammerer) passed(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tally[key]
	if t.Passed++; t.FirstMS < 0 {
		t.FirstMS = time.Since(h.begun).Milliseconds()
	}
}

// once is true if anybody answers, and be it by the handshake alone.
func once(proto, address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), callFor)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, proto, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if proto == "tcp" {
		_, _ = conn.Write(binary.BigEndian.AppendUint64(nil, 0))
		return true
	}
	_ = conn.SetDeadline(time.Now().Add(callFor))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 256))
	return err == nil
}
