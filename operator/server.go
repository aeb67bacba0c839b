// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/weftmesh/weft/pkg/metrics"
)

// Limits of the server of /metrics, /healthz and /readyz.
const (
	headerTimeout = 5 * time.Second
	readyTimeout  = time.Second
	takenRetry    = time.Second // between two tries of an address that another operator has
)

// server answers for every operator, leading or not: one that waits is ready when
// it could take over.
type server struct {
	address  string // empty: none
	socket   string // empty: none
	gatherer prometheus.Gatherer
	synced   func(context.Context) error
	log      *slog.Logger
	tcp      net.Listener // nil: the address is taken
	unix     net.Listener
}

// listen fails early if something is wrong with where to listen, but for an address
// that is taken: two operators of one node share it.
func (s *server) listen(ctx context.Context) (err error) {
	if s.socket != "" {
		if err := os.Remove(s.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("opening operator.healthSocket: %w", err)
		}
		if s.unix, err = (&net.ListenConfig{}).Listen(ctx, "unix", s.socket); err != nil {
			return fmt.Errorf("opening operator.healthSocket: %w", err)
		}
	}
	return s.listenTCP(ctx)
}

func (s *server) listenTCP(ctx context.Context) (err error) {
	if s.address == "" {
		return nil
	}
	s.tcp, err = (&net.ListenConfig{}).Listen(ctx, "tcp", s.address)
	if errors.Is(err, syscall.EADDRINUSE) {
		s.tcp = nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening operator.metricsAddress: %w", err)
	}
	return nil
}

// Start implements manager.Runnable.
func (s *server) Start(ctx context.Context) error {
	health := metrics.Health{Alive: func() error { return nil }, Ready: func() error { return s.ready(ctx) }}
	handler := metrics.Handler(s.gatherer, health, s.log)
	work, ctx := errgroup.WithContext(ctx)
	if s.unix != nil {
		work.Go(func() error { return serve(ctx, s.unix, handler) })
	}
	if s.address != "" {
		work.Go(func() error {
			if err := s.waitForAddress(ctx); err != nil || s.tcp == nil {
				return err
			}
			return serve(ctx, s.tcp, handler)
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// waitForAddress has the listener, or ctx has ended.
func (s *server) waitForAddress(ctx context.Context) error {
	if s.tcp != nil {
		return nil
	}
	s.log.Warn("operator.metricsAddress is taken; this operator's metrics are there when it is free", "address", s.address)
	tick := time.NewTicker(takenRetry)
	defer tick.Stop()
	for s.tcp == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.listenTCP(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	s.log.Info("operator.metricsAddress is free, and taken", "address", s.address)
	return nil
}

func serve(ctx context.Context, l net.Listener, handler http.Handler) error {
	web := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
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
