// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/agent/envoys"
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

// proxy is what enforces rulesets: Envoys, and what they and the kernel are told.
type proxy struct {
	dp     *datapath.Datapath
	envoys proxies
	server *server.Server
}

// proxies are the Envoy of a plain host, or those of pods.
type proxies interface {
	// Set says whether rulesets are in force, or connections have some. The kernel
	// knows it, and the groups of Envoys, when it returns.
	Set(active bool) error
	// Changed says that what they are told is another.
	Changed()
	Run(context.Context) error
	// State is a line about them, or what is wrong.
	State([]server.Session) (string, error)
}

// proxyConfig is how the host's Envoy runs; cleanup reads from it what to end.
func proxyConfig(cfg config.Config) (supervise.Config, error) {
	root, err := cgroupRoot(cfg)
	if err != nil {
		return supervise.Config{}, err
	}
	run := supervise.Default()
	run.Binary, run.Cgroup = cfg.Envoy.Binary, filepath.Join(root, "weft-envoy")
	run.Bootstrap.Node, run.Bootstrap.RunDir = cfg.NodeName, cfg.RunDir
	return run, nil
}

// cgroupRoot is the folder below which the node's groups are.
func cgroupRoot(cfg config.Config) (string, error) {
	if cfg.Cgroup != "" {
		return cfg.Cgroup, nil
	}
	return cgroup.FindMount()
}

// buildProxy makes the proxy, unless this node is to have none.
func (a *agent) buildProxy() error {
	if a.cfg.Envoy.Binary == "" {
		return nil
	}
	log := a.log.With("part", "proxy")
	p := &proxy{dp: a.dp, server: server.New(xds.Options{}, filepath.Join(a.cfg.RunDir, server.SnapshotFile), log)}
	way := nodenet.ProxyPath{StateDir: a.cfg.StateDir}
	if a.cfg.Kubernetes.Enabled {
		root, err := cgroupRoot(a.cfg)
		if err != nil {
			return fmt.Errorf("finding the control groups of pods: %w", err)
		}
		pods, err := envoys.NewPods(a.dp, way, root)
		if err != nil {
			return err
		}
		p.envoys = pods
		p.server.Admit(pods.Admit)
	} else {
		run, err := proxyConfig(a.cfg)
		if err != nil {
			return fmt.Errorf("finding a control group for Envoy: %w", err)
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding weft-envoy: %w", err)
		}
		p.envoys = envoys.NewHost(envoys.HostConfig{Kernel: a.dp, Path: way, Binary: filepath.Join(filepath.Dir(self), "weft-envoy"),
			Envoy: run, Needed: p.server.Asks, Log: log})
	}
	a.proxy, a.l7 = p, p.l7()
	return nil
}

// Update implements engine.Proxy.
func (p *proxy) Update(r model.Rulesets) {
	p.server.Update(r)
	p.envoys.Changed()
}

// WaitAcknowledged implements engine.Proxy.
func (p *proxy) WaitAcknowledged(ctx context.Context, rev model.Revision) error {
	return p.server.WaitAcknowledged(ctx, rev)
}

// SetRulesets implements engine.ProxiedFlows.
func (p *proxy) SetRulesets(active int, links model.RulesetLinks) error {
	if err := p.dp.SetRulesetLinks(links); err != nil {
		return err
	}
	return p.envoys.Set(active > 0)
}

// RulesetsInUse implements engine.ProxiedFlows.
func (p *proxy) RulesetsInUse() (map[model.RulesetID]bool, error) { return p.dp.RulesetsInUse() }

// proxyParts are what serves Envoy, and what starts it.
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
		"proxy":             a.proxy.envoys.Run,
		bootstrap.ADSSocket: serve(bootstrap.ADSSocket, a.proxy.server.Register),
		bootstrap.ALSSocket: serve(bootstrap.ALSSocket, sink.Register),
	}
}
