// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/metrics"
)

// started runs a server of this address, with a socket; end ends it.
func started(t *testing.T, address string, synced error) (socket string, end func()) {
	t.Helper()
	s := &server{address: address, socket: filepath.Join(t.TempDir(), "health.sock"), gatherer: metrics.NewRegistry(),
		synced: func(context.Context) error { return synced }, log: slog.New(slog.DiscardHandler)}
	if err := s.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Start(ctx) }()
	end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(end)
	return s.socket, end
}

func status(address string) int {
	resp, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func until(t *testing.T, address string, want int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); status(address) != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s answers %d, not %d", address, status(address), want)
		}
	}
}

// Two operators of one node: each is asked by its own socket, and the metrics of the
// second are there when the first one ends.
func TestTwoOperatorsShareANode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	one, end := started(t, address, nil)
	until(t, address, http.StatusOK)
	two, _ := started(t, address, errors.New("nothing has been read yet"))
	if err := askHealth(t.Context(), one, "/readyz"); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := askHealth(t.Context(), two, "/healthz"); err != nil {
		t.Errorf("the second lives: %v", err)
	}
	if err := askHealth(t.Context(), two, "/readyz"); err == nil || err.Error() != "nothing has been read yet" {
		t.Errorf("the second is not ready: %v", err)
	}
	if got := status(address); got != http.StatusOK {
		t.Errorf("while both run, the address answers %d", got)
	}
	end()
	until(t, address, http.StatusServiceUnavailable)
	if err := askHealth(t.Context(), one, "/healthz"); err == nil || !strings.HasPrefix(err.Error(), "asking the operator: ") {
		t.Errorf("after its end: %v", err)
	}
}
