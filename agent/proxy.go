// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/envoy/accesslog"
	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
)

// proxyRetry is how often it is looked whether Envoy is to be started.
const proxyRetry = 5 * time.Second

// proxy is the Envoy of a plain host: the kernel is told of it, and it is started, when
// there is a first ruleset. It runs apart from the agent and outlives it.
type proxy struct {
	log    *slog.Logger
	dp     *datapath.Datapath
	path   nodenet.ProxyPath
	binary string // weft-envoy's
	run    supervise.Config
	server *server.Server
	wake   chan struct{}

	mu     sync.Mutex
	active bool
	fault  error // why Envoy could not be started
}

// proxyConfig is how the host's Envoy runs; cleanup reads from it what to end.
func proxyConfig(cfg config.Config) (supervise.Config, error) {
	root := cfg.Cgroup
	if root == "" {
		found, err := cgroup.FindMount()
		if err != nil {
			return supervise.Config{}, err
		}
		root = found
	}
	run := supervise.Default()
	run.Binary, run.Cgroup = cfg.Envoy.Binary, filepath.Join(root, "weft-envoy")
	run.Bootstrap.Node, run.Bootstrap.RunDir = cfg.NodeName, cfg.RunDir
	return run, nil
}

// buildProxy makes the proxy, unless this node is to have none.
func (a *agent) buildProxy() error {
	if a.cfg.Kubernetes.Enabled || a.cfg.Envoy.Binary == "" {
		return nil
	}
	run, err := proxyConfig(a.cfg)
	if err != nil {
		return fmt.Errorf("finding a control group for Envoy: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding weft-envoy: %w", err)
	}
	log := a.log.With("part", "proxy")
	a.proxy = &proxy{
		log: log, dp: a.dp, path: nodenet.ProxyPath{StateDir: a.cfg.StateDir}, run: run,
		binary: filepath.Join(filepath.Dir(self), "weft-envoy"), wake: make(chan struct{}, 1),
		server: server.New(xds.Options{}, filepath.Join(a.cfg.RunDir, server.SnapshotFile), log),
	}
	a.l7 = a.proxy.l7()
	return nil
}

// SetRulesets implements engine.ProxiedFlows. The kernel knows Envoy's group before
// Envoy begins to listen.
func (p *proxy) SetRulesets(active int, successors map[model.RulesetID]model.RulesetID) error {
	on := active > 0
	if err := p.dp.SetRulesetSuccessors(successors); err != nil {
		return err
	}
	row := model.Proxy{Active: on}
	if on {
		if err := errors.Join(p.path.Set(true), supervise.MakeCgroup(p.run.Cgroup)); err != nil {
			return err
		}
		row.Cgroups[0] = p.run.Cgroup
	}
	if err := p.dp.SetProxy(row); err != nil {
		return err
	}
	if !on {
		if err := p.path.Set(false); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.active = on
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default: // it is about to look anyway
	}
	return nil
}

// RulesetsInUse implements engine.ProxiedFlows.
func (p *proxy) RulesetsInUse() (map[model.RulesetID]bool, error) { return p.dp.RulesetsInUse() }

// Run has Envoy run, from when it is needed for the first time; then it stays.
func (p *proxy) Run(ctx context.Context) error {
	tick := time.NewTicker(proxyRetry)
	defer tick.Stop()
	for {
		p.launch(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-tick.C:
		}
	}
}

func (p *proxy) launch(ctx context.Context) {
	p.mu.Lock()
	active, before := p.active, p.fault
	p.mu.Unlock()
	if !active {
		return
	}
	_, err := os.Stat(p.run.Binary)
	if err == nil {
		err = supervise.Launch(ctx, p.binary, p.run)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && (before == nil || before.Error() != err.Error()) {
		p.log.Error("Envoy cannot be started, connections that need it are refused", "error", err)
	}
	p.mu.Lock()
	p.fault = err
	p.mu.Unlock()
}

// parts are what serves Envoy, and what starts it.
func (a *agent) proxyParts() map[string]func(context.Context) error {
	if a.proxy == nil {
		return nil
	}
	sink := accesslog.New(func(e accesslog.Event) { a.requests.Add(requestEvent(e)) })
	serve := func(socket string, register func(grpc.ServiceRegistrar)) func(context.Context) error {
		return func(ctx context.Context) error {
			return serveGRPC(ctx, filepath.Join(a.cfg.RunDir, socket), a.metrics.CountRequests, register)
		}
	}
	return map[string]func(context.Context) error{
		"proxy":             a.proxy.Run,
		bootstrap.ADSSocket: serve(bootstrap.ADSSocket, a.proxy.server.Register),
		bootstrap.ALSSocket: serve(bootstrap.ALSSocket, sink.Register),
	}
}
