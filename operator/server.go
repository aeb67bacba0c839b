// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft/pkg/metrics"
)

// Limits of the server of /metrics, /healthz and /readyz.
const (
	headerTimeout = 5 * time.Second
	readyTimeout  = time.Second
)

// server answers for every operator, leading or not: one that waits is ready when
// it could take over.
type server struct {
	address  string // empty: none
	gatherer prometheus.Gatherer
	synced   func(context.Context) error
	log      *slog.Logger
	listener net.Listener
}

// listen fails early if the address is taken.
func (s *server) listen(ctx context.Context) error {
	if s.address == "" {
		return nil
	}
	var err error
	if s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.address); err != nil {
		return fmt.Errorf("opening operator.metricsAddress: %w", err)
	}
	return nil
}

// Start implements manager.Runnable.
func (s *server) Start(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	health := metrics.Health{Alive: func() error { return nil }, Ready: func() error { return s.ready(ctx) }}
	web := &http.Server{Handler: metrics.Handler(s.gatherer, health, s.log), ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*server) NeedLeaderElection() bool { return false }

func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.synced(ctx)
}
