// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/pkg/state"
)

const pinRoot = "/sys/fs/bpf/weft" // the sandbox's own

// machine is the agent's way from its tables to the kernel: the engine and the
// real datapath, without sources and servers.
type machine struct {
	testing.TB
	tables *state.Tables
	engine *engine.Engine
	kernel *counting
}

func openDatapath(tb testing.TB) *datapath.Datapath {
	tb.Helper()
	return openDatapathAt(tb, pinRoot, true)
}

func openDatapathAt(tb testing.TB, root string, events bool) *datapath.Datapath {
	tb.Helper()
	dp, err := datapath.Open(datapath.Config{BPFFS: root, FlowEvents: events, Log: slog.New(slog.DiscardHandler)})
	ok(tb, err)
	tb.Cleanup(func() {
		if err := errors.Join(dp.Close(), datapath.Cleanup(root)); err != nil {
			tb.Error(err)
		}
	})
	return dp
}

// startMachine runs the loop on tables that are filled before its first look.
func startMachine(tb testing.TB, fill func(*state.Tables)) *machine {
	tb.Helper()
	tables, err := state.New()
	ok(tb, err)
	m := &machine{TB: tb, tables: tables, kernel: &counting{Datapath: openDatapath(tb)}}
	none := func(string, int) {}
	m.engine = engine.New(engine.Config{Log: slog.New(slog.DiscardHandler), Tables: tables, Datapath: m.kernel,
		Node:   engine.Node{Cluster: "default", Filter: identity.DefaultFilter(), ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}},
		Errors: none, Drift: none, CompareEvery: time.Hour})
	fill(tables)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.engine.Run(ctx) }() // ends with the benchmark
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("the engine ended: %v", err)
		}
	})
	return m
}

// wait until all that the tables say is in the kernel.
func (m *machine) wait(revision model.Revision) {
	m.Helper()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * soon); time.Now().Before(deadline); <-tick.C {
		if _, done := m.engine.Realized().Revisions(); done >= revision {
			return
		}
	}
	for kind, errs := range m.engine.Realized().Failing() {
		m.Errorf("%d of kind %s are not in the kernel: %v", len(errs), kind, errs[0])
	}
	m.FailNow()
}

// changed tells how long a change of the tables takes until the kernel has it, in ms.
func (m *machine) changed(change func() (model.Revision, error)) float64 {
	m.Helper()
	start := time.Now()
	revision, err := change()
	ok(m, err)
	m.wait(revision)
	return float64(time.Since(start).Microseconds()) / 1e3
}

// counting counts the rows of services that are written to the kernel.
type counting struct {
	reconcile.Datapath
	rows int
}

func (c *counting) ApplyBackends(rows []model.BackendRow) error {
	c.rows += len(rows)
	return c.Datapath.ApplyBackends(rows)
}

func (c *counting) DeleteBackends(ids []uint32) error {
	c.rows += len(ids)
	return c.Datapath.DeleteBackends(ids)
}

func (c *counting) ApplySlots(table model.SlotTable) error {
	c.rows += len(table.Backends)
	return c.Datapath.ApplySlots(table)
}

func (c *counting) TrimSlots(service, from, to uint32) error {
	c.rows += int(to - from)
	return c.Datapath.TrimSlots(service, from, to)
}

func (c *counting) ApplyFrontends(rows []model.FrontendRow) error {
	c.rows += len(rows)
	return c.Datapath.ApplyFrontends(rows)
}

func (c *counting) DeleteFrontends(keys []model.FrontendKey) error {
	c.rows += len(keys)
	return c.Datapath.DeleteFrontends(keys)
}

// device makes a pair and gives the index of its first end.
func device(tb testing.TB, label string) uint32 {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = label
	ok(tb, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: label + "p"}))
	link, err := netlink.LinkByName(label)
	ok(tb, err)
	tb.Cleanup(func() { _ = netlink.LinkDel(link) })
	return uint32(link.Attrs().Index)
}
