// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/agent/cniserver"
	"github.com/weftmesh/weft/agent/endpointstore"
	"github.com/weftmesh/weft/agent/nodenet"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/ipam"
	"github.com/weftmesh/weft/pkg/model"
)

const (
	hostIPv4 = "192.0.2.1"
	hostIPv6 = "2001:db8:ffff::1"
)

var (
	range4 = netip.MustParsePrefix("10.17.0.0/24")
	range6 = netip.MustParsePrefix("fd17::/64")
)

// tables stand in for the agent's tables.
type tables struct {
	mu        sync.Mutex
	pods      map[model.PodKey]model.Pod
	endpoints map[uint32]model.Endpoint
	upsertErr error
}

func (t *tables) Pod(key model.PodKey) (model.Pod, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.pods[key]
	return p, ok
}

// AddOrphan implements cniserver.Workloads.
func (t *tables) AddOrphan(pod model.Pod) (model.Revision, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, declared := t.pods[pod.PodKey]; !declared {
		pod.Orphan = true
		t.pods[pod.PodKey] = pod
	}
	return 1, nil
}

func (t *tables) Upsert(ep model.Endpoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.upsertErr != nil {
		return t.upsertErr
	}
	t.endpoints[ep.ID] = ep
	return nil
}

func (t *tables) Delete(id uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.endpoints, id)
	return nil
}

func (t *tables) list() []model.Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []model.Endpoint
	for _, ep := range t.endpoints {
		out = append(out, ep)
	}
	return out
}

// kernel stands in for the reconciler: wait is what a test wants of WaitEndpoint.
type kernel struct {
	mu   sync.Mutex
	wait func(ctx context.Context, id uint32) error
}

func (k *kernel) set(wait func(ctx context.Context, id uint32) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wait = wait
}

func (k *kernel) WaitEndpoint(ctx context.Context, id uint32) (model.Revision, error) {
	k.mu.Lock()
	wait := k.wait
	k.mu.Unlock()
	if wait == nil {
		return 7, nil
	}
	return 7, wait(ctx, id)
}

// host is a node with an agent that can be stopped and started.
type host struct {
	t        *testing.T
	dir      string
	ranges   [2]netip.Prefix
	tables   *tables
	kernel   *kernel
	store    *endpointstore.Store
	notReady error
	stop     func()
}

// newHost starts a node whose pods have addresses of these ranges.
func newHost(t *testing.T, v4, v6 netip.Prefix) *host {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "host")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, ranges: [2]netip.Prefix{v4, v6}, kernel: &kernel{}, tables: &tables{
		pods: map[model.PodKey]model.Pod{}, endpoints: map[uint32]model.Endpoint{},
	}}
	h.start()
	t.Cleanup(func() {
		h.stopAgent()
		if err := nodenet.Cleanup(nodenet.CleanupConfig{StateDir: dir}); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return h
}

func (h *host) socket() string { return h.dir + "/cni.sock" }

// start starts the agent, as wiring does: restore, listen, run.
func (h *host) start() {
	h.t.Helper()
	addrs, err := ipam.NewAllocator(h.ranges[0], h.ranges[1])
	if err != nil {
		h.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(h.t.Output(), nil))
	if h.store, err = endpointstore.New(h.dir, addrs, log); err != nil {
		h.t.Fatal(err)
	}
	server := cniserver.New(cniserver.Config{
		Store: h.store, Workloads: h.tables, Endpoints: h.tables, Realizer: h.kernel,
		Devices: nodenet.Devices{}, Log: log, MTU: func() uint16 { return 1420 }, Ready: func() error { return h.notReady },
		CommitTimeout: commitTimeout,
	})
	if err := server.Restore(); err != nil {
		h.t.Fatal(err)
	}
	listener, err := net.Listen("unix", h.socket())
	if err != nil {
		h.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.WaitForHandlers(true)) // as the end of a process would
	agentv1.RegisterCNIServiceServer(g, server)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Run(ctx) })
	wg.Go(func() { _ = g.Serve(listener) })
	h.stop = func() { cancel(); g.Stop(); wg.Wait() }
}

// stopAgent takes the agent away; what it wrote stays.
func (h *host) stopAgent() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
		h.tables.endpoints = map[uint32]model.Endpoint{}
	}
}

// addPod makes a workload known.
func (h *host) addPod(name string) {
	h.tables.mu.Lock()
	defer h.tables.mu.Unlock()
	key := model.PodKey{Namespace: "default", Name: name}
	h.tables.pods[key] = model.Pod{PodKey: key}
}

// wantNothing fails the test if anything of an attachment is left.
func (h *host) wantNothing(p *pod) {
	h.t.Helper()
	if err := h.leftovers(p); err != nil {
		h.t.Error(err)
	}
}

func (h *host) leftovers(p *pod) error {
	var errs []error
	if index, _ := (nodenet.Devices{}).Find(p.key().HostDevice()); index != 0 {
		errs = append(errs, fmt.Errorf("device %s is left", p.key().HostDevice()))
	}
	if h.stop != nil {
		if _, ok := h.store.Get(p.key()); ok {
			errs = append(errs, errors.New("the record is left"))
		}
		for _, ep := range h.tables.list() {
			if ep.ContainerID == p.containerID {
				errs = append(errs, errors.New("the endpoint is left"))
			}
		}
	}
	return errors.Join(errs...)
}
