// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"
)

// senders are those that an echo has heard: how many datagrams and connections came
// from each address.
type senders struct {
	mu    sync.Mutex
	count map[string]int
}

func (s *senders) one(from net.Addr) {
	host, _, err := net.SplitHostPort(from.String())
	if err != nil {
		host = from.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[host]++
}

// tell answers /heard until the process ends.
func (s *senders) tell() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/heard", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.count)
	})
	server := &http.Server{Addr: tellPort, Handler: mux, ReadHeaderTimeout: answerIn}
	return server.ListenAndServe()
}
