// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/agent/api"
	"github.com/weftmesh/weft/agent/cniserver"
	"github.com/weftmesh/weft/agent/endpointstore"
	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/daemonset/cni/install"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/logging"
	"github.com/weftmesh/weft/pkg/metrics"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// agent is every part of the node agent, made in the order in which data flows.
type agent struct {
	cfg   config.Config
	log   *slog.Logger
	level *slog.LevelVar
	start time.Time

	client   *k8s.Client    // nil outside of Kubernetes
	ranges   []netip.Prefix // of this node's pods
	tables   *state.Tables
	problems *problems
	input    input
	proof    *proof // nil outside of Kubernetes
	addrs    *nodenet.Addresses
	tunnel   *nodenet.Tunnel // nil: packets reach other nodes' pods without
	uplinks  *nodenet.Uplinks
	cni      *cniserver.Server
	cniFiles *install.Keeper // nil: others install them
	pods     *workloadLoop
	dp       *datapath.Datapath
	gone     *goneLoop
	events   *datapath.FlowReader
	engine   *engine.Engine
	flows    *flow.Pipeline
	store    *flow.Store
	proxy    *proxy // nil: there is none
	l7       l7
	requests *flow.Requests // that the proxy tells of
	registry *prometheus.Registry
	metrics  *metrics.Agent
}

// run is the agent's life: it ends with ctx, or with the first part that fails.
func run(ctx context.Context, cfg config.Config, path string) error {
	a := &agent{cfg: cfg, level: new(slog.LevelVar), start: time.Now()}
	a.level.Set(cfg.LogLevel.Level())
	a.log = logging.New(a.level, os.Stderr)
	lock, err := lockNode(cfg.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("making stateDir: %w", err)
	}
	if cfg.Kubernetes.Enabled {
		if a.client, err = newClient(cfg.Kubernetes); err != nil {
			return err
		}
	}
	if a.ranges, err = a.podRanges(ctx); err != nil {
		return err
	}
	if err := a.build(); err != nil {
		return err
	}
	defer a.dp.Close()
	defer a.events.Close()
	if err := a.tables.Start(); err != nil {
		return fmt.Errorf("starting the tables: %w", err)
	}
	defer a.tables.Stop()
	if err := a.restore(ctx); err != nil {
		return err
	}
	a.log.Info("weft-agent is running", "version", weft.Version(), "node", cfg.NodeName, "source", a.input.name, "podCIDRs", a.ranges)
	return a.serve(ctx, path)
}

// build makes every part; nothing runs yet.
func (a *agent) build() error {
	var err error
	tunnelled := false // until now, and not any more
	if a.tunnelPort() == 0 {
		if tunnelled, err = nodenet.RemoveTunnel(); err != nil {
			return err
		}
	}
	if a.dp, err = datapath.Open(a.datapathConfig()); err != nil {
		return err
	}
	if a.tables, err = state.New(); err != nil {
		return err
	}
	filter, err := a.cfg.IdentityLabels.Filter()
	if err != nil {
		return fmt.Errorf("reading identityLabels: %w", err)
	}
	if err := a.buildProxy(); err != nil {
		return err
	}
	node := engine.Node{Name: a.cfg.NodeName, Cluster: a.cfg.ClusterName, Filter: filter, ClusterCIDRs: a.cfg.ClusterCIDRs,
		PodCIDRs: a.ranges, Tunnel: a.tunnelPort() != 0, Proxy: a.l7.proxied != nil}

	a.problems = &problems{}
	a.addrs = nodenet.NewAddresses(a.setHostAddrs, a.log.With("part", "addresses"))
	if err := a.buildWayOut(tunnelled); err != nil {
		return err
	}

	a.registry = metrics.NewRegistry()
	a.metrics = metrics.NewAgent(a.registry, weft.Version())
	a.engine = engine.New(engine.Config{
		Log: a.log.With("part", "engine"), Node: node, Tables: a.tables, Datapath: a.dp,
		Errors: a.metrics.ReconcileErrors, Drift: a.metrics.Drift,
		Proxy: a.l7.proxy, Proxied: a.l7.proxied, Rulesets: a.rulesetStore(),
	})
	a.input = a.chooseInput(node)
	a.gone = &goneLoop{log: a.log.With("part", "sockets"), sockets: a.dp, first: a.engine.Realized().WaitFirst}
	a.store = flow.NewStore(a.cfg.Flows.BufferSize)
	a.requests = &flow.Requests{Names: a.requestNames, Store: a.store}
	a.metrics.Watch(a.metricSources())
	if a.events, err = a.dp.Flows(); err != nil {
		return err
	}
	a.flows = flow.NewPipeline(flow.Config{
		Source: a.events, Names: func() flow.Names { return a.engine.View().Names },
		Store: a.store, Clock: flow.SystemClock, Log: a.log.With("part", "flows"),
	})
	return a.buildCNI()
}

// buildWayOut makes what keeps the devices between nodes and to the outside.
func (a *agent) buildWayOut(tunnelled bool) error {
	had, leave, err := a.dp.Uplinks()
	if err != nil {
		return err
	}
	m := a.cfg.Masquerade
	cfg := nodenet.UplinksConfig{Devices: m.Devices, IPv4: m.IPv4, IPv6: m.IPv6}
	if cfg.HostPorts, err = a.dp.HostPorts(); err != nil {
		return err
	}
	if a.tunnelPort() != 0 {
		a.tunnel = nodenet.NewTunnel(nodenet.TunnelConfig{
			Self: a.cfg.NodeName, Port: a.cfg.Tunnel.Port, MTU: a.cfg.MTU, Nodes: a.tables.Nodes,
			Attach: a.dp.SetTunnel, ReadyChanged: func() { a.engine.Realized().Touch() }, Log: a.log.With("part", "tunnel"),
		})
		cfg.Underlay = a.tunnel.Underlay
	} else if err := a.dp.SetTunnel(model.TunnelDevice{}); err != nil {
		return err
	}
	if a.tunnel == nil {
		had = leave // others were some for what came to host ports
	}
	if tunnelled {
		had = nil // some were uplinks for the tunnel's sake alone
	}
	a.uplinks = nodenet.NewUplinks(cfg, had, a.dp.SetUplinks, a.log.With("part", "uplinks"))
	return nil
}

func (a *agent) buildCNI() error {
	v4, v6 := familyRanges(a.ranges)
	addrs, err := ipam.NewAllocator(v4, v6)
	if err != nil {
		return fmt.Errorf("reading podCIDRs: %w", err)
	}
	fixed, err := nodenet.MTU(a.cfg.MTU)
	if err != nil {
		return err
	}
	mtu := func() uint16 { return fixed }
	if a.tunnel != nil {
		mtu = a.tunnel.MTU
	}
	log := a.log.With("part", "cni")
	records, err := endpointstore.New(a.cfg.StateDir, addrs, log)
	if err != nil {
		return err
	}
	a.pods = &workloadLoop{log: log, tables: a.tables, records: records}
	a.cni = cniserver.New(cniserver.Config{
		Store: records, Workloads: a.tables, Endpoints: endpointTable{a.tables},
		Realizer: realizer{tables: a.tables, realized: a.engine.Realized()},
		Devices:  nodenet.Devices{}, Ready: a.readyToAttach, WatchPod: a.input.watchPod, Log: log, MTU: mtu,
	})
	if a.cfg.CNI.Install {
		a.cniFiles = install.NewKeeper(install.KeeperConfig{
			Config: cniFiles(a.cfg), Ready: a.engine.Realized().WaitFirst, Log: log,
		})
	}
	return nil
}

func (a *agent) datapathConfig() datapath.Config {
	ct := a.cfg.Conntrack
	return datapath.Config{
		BPFFS: pinDir(a.cfg), CTEntries4: ct.EntriesIPv4, CTEntries6: ct.EntriesIPv6,
		Timeouts: datapath.Timeouts{
			TCP: time.Duration(ct.TCPTimeout), Any: time.Duration(ct.OtherTimeout),
			New: time.Duration(ct.UnansweredTimeout), Closed: time.Duration(ct.TCPClosingTimeout),
			Alive: time.Duration(a.cfg.Flows.AliveInterval),
		},
		SNATFirst: a.cfg.Masquerade.FirstPort, SNATLast: a.cfg.Masquerade.LastPort,
		TunnelPort: a.tunnelPort(), Direct: a.direct(),
		FlowEvents: true, Cgroup: a.cfg.Cgroup, Log: a.log.With("part", "datapath"),
	}
}

// tunnelPort is 0 without a tunnel.
func (a *agent) tunnelPort() uint16 {
	if a.cfg.Tunnel.Protocol != config.TunnelVXLAN {
		return 0
	}
	return a.cfg.Tunnel.Port
}

// direct are the ranges whose pods pass the host's stack by on the way to other nodes.
func (a *agent) direct() []netip.Prefix {
	if !a.cfg.Shortcut {
		return nil
	}
	return a.ranges
}

// pinDir is where maps and links are pinned.
func pinDir(cfg config.Config) string { return filepath.Join(cfg.BPFFS, "weft") }

func (a *agent) setHostAddrs(addrs nodenet.HostAddrs) {
	if _, err := a.tables.ReplaceHostAddrs(addrs.Own, addrs.Subnets...); err != nil {
		a.log.Error("the host's addresses cannot be recorded", "error", err)
	}
	if err := a.dp.SetHome(addrs.All()); err != nil {
		a.log.Error("the kernel cannot be told the host's addresses", "error", err)
	}
}

// restore takes up what a former agent left, before anything new is let in.
func (a *agent) restore(ctx context.Context) error {
	if err := nodenet.SetUp(a.ranges); err != nil {
		return err
	}
	if err := a.input.restore(ctx); err != nil {
		return err
	}
	addrs, err := nodenet.HostAddresses()
	if err != nil {
		return err
	}
	if _, err := a.tables.ReplaceHostAddrs(addrs.Own, addrs.Subnets...); err != nil {
		return err
	}
	if err := a.dp.SetHome(addrs.All()); err != nil {
		return err
	}
	if a.tunnel != nil {
		if err := a.tunnel.Refresh(); err != nil {
			return err
		}
	}
	if err := a.uplinks.Refresh(); err != nil {
		return err
	}
	return a.cni.Restore()
}

// serve runs every part until ctx ends or one of them fails.
func (a *agent) serve(ctx context.Context, path string) error {
	g, ctx := errgroup.WithContext(ctx)
	parts := map[string]func(context.Context) error{
		"addresses":     a.addrs.Run,
		"uplinks":       a.uplinks.Run,
		"engine":        a.engine.Run,
		"flows":         a.flows.Run,
		"conntrack":     a.collectGarbage,
		"sockets":       a.gone.Run,
		"endpoints":     a.cni.Run,
		"CNI files":     a.keepCNIFiles,
		"workloads":     a.pods.Run,
		"configuration": func(ctx context.Context) error { return a.followConfiguration(ctx, path) },
		"host ports":    a.followHostPorts,
		"memory":        a.giveBack,
		"cni.sock": func(ctx context.Context) error {
			return serveGRPC(ctx, filepath.Join(a.cfg.RunDir, "cni.sock"), a.metrics.CountRequests, func(r grpc.ServiceRegistrar) {
				agentv1.RegisterCNIServiceServer(r, a.cni)
			})
		},
		"agent.sock": func(ctx context.Context) error {
			return serveGRPC(ctx, filepath.Join(a.cfg.RunDir, "agent.sock"), a.metrics.CountRequests, func(r grpc.ServiceRegistrar) {
				agentv1.RegisterAgentServiceServer(r, a.api())
			})
		},
		"metrics": a.serveMetrics,
	}
	if a.tunnel != nil {
		parts["tunnel"] = a.tunnel.Run
	}
	maps.Copy(parts, a.input.parts)
	maps.Copy(parts, a.proxyParts())
	for name, part := range parts {
		g.Go(func() error {
			if err := part(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (a *agent) api() *api.Server {
	var podRanges []string
	for _, p := range a.ranges {
		podRanges = append(podRanges, p.String())
	}
	components := append(slices.Clone(a.input.components), a.gone.status, a.uplinkStatus, a.hostPortStatus)
	if a.tunnel != nil {
		components = append(components, a.tunnelStatus)
	}
	if a.cniFiles != nil {
		components = append(components, a.cniFilesStatus)
	}
	if a.proxy != nil {
		components = append(components, a.proxy.status)
	}
	return api.New(api.Config{
		Version: weft.Version(), Node: a.cfg.NodeName, Source: a.input.name,
		PodCIDRs: podRanges, Started: a.start, Revisions: a.tables,
		Realized: a.engine.Realized(), View: a.engine.View, Flows: &flow.Observer{Store: a.store},
		FlowCounters: a.flowCounters, Drops: a.dropCounters, Hits: a.dp.Hits, PolicyFaults: a.problems.ofPolicies,
		Components: components, L7: a.l7API(),
	})
}
