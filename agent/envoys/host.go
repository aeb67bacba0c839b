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

// hostRetry is how often it is looked whether Envoy is to be started, or ended.
const hostRetry = 5 * time.Second

// lingers is how long Envoy stays when nothing is in force any more: what is taken away is
// often put back soon.
const lingers = 10 * time.Second

// HostConfig says which Envoy is run, and for whom.
type HostConfig struct {
	Kernel Kernel
	Path   Path
	Binary string // weft-envoy's
	Envoy  supervise.Config
	// Needed tells whether any ruleset asks for something, as long as that is not known,
	// too. What asks for nothing any more is there for connections that Envoy has.
	Needed func() bool
	Log    *slog.Logger
}

// Host is the Envoy of a plain host: it is started when there is a first ruleset, apart
// from the agent, which it outlives, and ended some time after the last one has gone, with
// the last client.
type Host struct {
	HostConfig
	wake chan struct{}
	last time.Time // when it was needed last

	mu     sync.Mutex
	active bool
	fault  error // why Envoy could not be started
}

// NewHost makes the Envoy of a plain host.
func NewHost(c HostConfig) *Host { return &Host{HostConfig: c, wake: make(chan struct{}, 1)} }

// Set says whether rulesets are in force, or connections have some.
func (h *Host) Set(active bool) error {
	row := model.Proxy{Active: active}
	if active {
		if err := errors.Join(h.Path.Set(true), supervise.MakeCgroup(h.Envoy.Cgroup)); err != nil {
			return err
		}
		row.Cgroups[0] = h.Envoy.Cgroup
	}
	if err := h.Kernel.SetProxy(row); err != nil {
		return err
	}
	if !active {
		if err := h.Path.Set(false); err != nil {
			return err
		}
	}
	h.mu.Lock()
	h.active = active
	h.mu.Unlock()
	return nil
}

// Changed has it looked at once whether Envoy is needed.
func (h *Host) Changed() {
	select {
	case h.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

// Run has Envoy run while it is needed.
func (h *Host) Run(ctx context.Context) error {
	tick := time.NewTicker(hostRetry)
	defer tick.Stop()
	for {
		h.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-tick.C:
		}
	}
}

func (h *Host) look(ctx context.Context) {
	h.mu.Lock()
	active := h.active
	h.mu.Unlock()
	if h.Needed() {
		h.last = time.Now()
		if active {
			h.launch(ctx)
		}
	} else if time.Since(h.last) >= lingers {
		h.retire(ctx)
	}
}

// retire ends Envoy, if it has no client any more.
func (h *Host) retire(ctx context.Context) {
	ended, err := supervise.EndIdle(ctx, h.Envoy)
	if ended {
		h.Log.Info("Envoy is not needed any more, and has ended")
	}
	if err != nil && ctx.Err() == nil {
		h.Log.Warn("Envoy is not needed any more, and cannot be ended", "error", err)
	}
}

func (h *Host) launch(ctx context.Context) {
	h.mu.Lock()
	before := h.fault
	h.mu.Unlock()
	_, err := os.Stat(h.Envoy.Binary)
	if err == nil {
		err = supervise.Launch(ctx, h.Binary, h.Envoy)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && (before == nil || before.Error() != err.Error()) {
		h.Log.Error("Envoy cannot be started, connections that need it are refused", "error", err)
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
	case h.active && h.Needed():
		return h.Envoy.Binary, supervise.Trouble(h.Envoy)
	default:
		return "not needed: no rule asks for more than ports", nil
	}
}
