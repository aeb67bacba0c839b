// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/agent/member"
	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/k8s/source"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/apiserver"
)

// node is the agent of a node, but for what meets its kernel.
type node struct {
	name   string
	client *k8s.Client
	wire   *wire // all that it hears and says
	tables *state.Tables
	engine *engine.Engine
	dp     *kernel
	member *member.Member
	ranges []netip.Prefix
	next   atomic.Uint32 // number of the endpoint that was attached last
	faults atomic.Int64  // of objects, and failed requests
}

// newNode makes the agent of a node that has its pod ranges.
func newNode(ctx context.Context, name string, seen *arrivals) (*node, error) {
	n := &node{name: name, wire: &wire{}, dp: &kernel{Datapath: fake.New(), seen: seen}}
	cfg := theWorld.server.Config(apiserver.Admin)
	cfg.UserAgent, cfg.Dial = "weft-agent/"+name, n.wire.dial
	cfg.QPS, cfg.Burst = k8s.RequestsPerSecond, k8s.RequestsInBurst
	var err error
	if n.client, err = k8s.NewClient(cfg); err != nil {
		return nil, err
	}
	if n.tables, err = state.New(); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	none := func(string, int) {}
	n.engine = engine.New(engine.Config{Log: log, Tables: n.tables, Datapath: n.dp, Errors: none, Drift: none,
		Node: engine.Node{Name: name, Cluster: "default", Filter: identity.DefaultFilter(), ClusterCIDRs: clusterCIDRs()}})
	n.member = member.New(member.Config{Node: name, Client: n.client, Tables: n.tables, Engine: n.engine, Log: log,
		Failed: func(string) { n.faults.Add(1) },
		Report: func(list []source.Problem) { n.faults.Add(int64(len(list))) },
		Ready:  n.ready})
	return n, eventually(ctx, "ranges of "+name, func() error {
		obj, err := n.client.Nodes.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		got, errs := k8s.NodeFrom(obj)
		if n.ranges = got.PodCIDRs; len(n.ranges) != 2 {
			return fmt.Errorf("it has %v: %w", n.ranges, errors.Join(errs.ToAggregate()))
		}
		return nil
	})
}

func clusterCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}
}

func (n *node) ready() error {
	if w := n.member.Source.Waiting(); w != "" {
		return errors.New(w)
	}
	return nil
}

// run is the agent's life.
func (n *node) run(ctx context.Context) error {
	if err := n.tables.Start(); err != nil {
		return err
	}
	defer n.tables.Stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.engine.Run(ctx) })
	for _, part := range n.member.Parts() {
		g.Go(func() error { return part(ctx) })
	}
	return g.Wait()
}

// place is the next endpoint of a node, with addresses that none had before.
func (n *node) place(pod model.PodKey) model.Endpoint {
	number := n.next.Add(1)
	e := model.Endpoint{ID: number, Slot: uint16(number), Pod: pod, ContainerID: fmt.Sprint("c", number), IfName: "eth0",
		HostIfName: fmt.Sprintf("wf%010d", number), HostIfIndex: 100 + number, MTU: 1500, State: model.EndpointReady}
	for _, r := range n.ranges {
		b := r.Addr().AsSlice()
		b[len(b)-1] = byte(number + 1)
		a, _ := netip.AddrFromSlice(b) // of 4 or 16 bytes
		if a.Is4() {
			e.IPv4 = a
		} else {
			e.IPv6 = a
		}
	}
	return e
}

// attach is a CNI ADD: the pod is known, its row comes into the kernel.
func (n *node) attach(ctx context.Context, e model.Endpoint) error {
	for {
		_, known, changed := n.tables.WatchPod(e.Pod)
		if known {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s has not come to %s: %w", e.Pod, n.name, ctx.Err())
		case <-changed:
		}
	}
	rev, err := n.tables.UpsertEndpoint(e)
	if err != nil {
		return err
	}
	_, err = n.engine.Realized().WaitEndpoint(ctx, e.ID, rev)
	return err
}
