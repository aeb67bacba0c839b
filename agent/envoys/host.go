// SPDX-License-Identifier: Apache-2.0

// Package envoys knows the Envoys of the node: the one of a plain host, which it starts,
// or those that run in pods of their own. The kernel is told the control group of each
// before it can begin to listen.
package envoys

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/pkg/model"
)

// Kernel is what the datapath must know.
type Kernel interface {
	SetProxy(model.Proxy) error
	// PreferredBlock is the one of the row that was set last, by whoever.
	PreferredBlock() (uint8, error)
}

// Path makes the way of packets to a proxy's sockets, or ends it.
type Path interface{ Set(on bool) error }

// hostRetry is how often it is looked whether Envoy is to be started.
const hostRetry = 5 * time.Second

// Host is the Envoy of a plain host: it is started when there is a first ruleset, apart
// from the agent, which it outlives.
type Host struct {
	kernel Kernel
	path   Path
	binary string // weft-envoy's
	run    supervise.Config
	log    *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex
	active bool
	fault  error // why Envoy could not be started
}

// NewHost makes the Envoy of a plain host, which the binary weft-envoy runs.
func NewHost(k Kernel, p Path, binary string, run supervise.Config, log *slog.Logger) *Host {
	return &Host{kernel: k, path: p, binary: binary, run: run, log: log, wake: make(chan struct{}, 1)}
}

// Set says whether rulesets are in force, or connections have some.
func (h *Host) Set(active bool) error {
	row := model.Proxy{Active: active}
	if active {
		if err := errors.Join(h.path.Set(true), supervise.MakeCgroup(h.run.Cgroup)); err != nil {
			return err
		}
		row.Cgroups[0] = h.run.Cgroup
	}
	if err := h.kernel.SetProxy(row); err != nil {
		return err
	}
	if !active {
		if err := h.path.Set(false); err != nil {
			return err
		}
	}
	h.mu.Lock()
	h.active = active
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default: // it is about to look anyway
	}
	return nil
}

// Run has Envoy run, from when it is needed for the first time; then it stays.
func (h *Host) Run(ctx context.Context) error {
	tick := time.NewTicker(hostRetry)
	defer tick.Stop()
	for {
		h.launch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-tick.C:
		}
	}
}

func (h *Host) launch(ctx context.Context) {
	h.mu.Lock()
	active, before := h.active, h.fault
	h.mu.Unlock()
	if !active {
		return
	}
	_, err := os.Stat(h.run.Binary)
	if err == nil {
		err = supervise.Launch(ctx, h.binary, h.run)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && (before == nil || before.Error() != err.Error()) {
		h.log.Error("Envoy cannot be started, connections that need it are refused", "error", err)
	}
	h.mu.Lock()
	h.fault = err
	h.mu.Unlock()
}

// State tells what runs, or why nothing does.
func (h *Host) State([]server.Session) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.fault != nil:
		return "", fmt.Errorf("cannot be started: %w", h.fault)
	case h.active:
		return h.run.Binary, nil
	default:
		return "not started: no rule has asked for more than ports yet", nil
	}
}
