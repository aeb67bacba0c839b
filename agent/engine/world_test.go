// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/pkg/state"
)

// world is tables, an engine and a fake kernel; step runs the engine once.
type world struct {
	t      *testing.T
	tables *state.Tables
	dp     *fake.Datapath
	engine *Engine
	source state.Source
}

func testNode() Node {
	return Node{Cluster: "default", Filter: identity.DefaultFilter(), Proxy: true,
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}}
}

func newWorld(t *testing.T, dp *fake.Datapath) *world {
	t.Helper()
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, tables: tables, dp: dp}
	w.drive(dp)
	return w
}

// drive makes the engine of a kernel, which it has compared. Its clock runs a
// hundred times as fast as others, so that what fails is soon tried again.
func (w *world) drive(dp reconcile.Datapath) {
	w.t.Helper()
	none := func(string, int) {}
	w.engine = New(Config{Log: slog.New(slog.DiscardHandler), Node: testNode(), Tables: w.tables, Datapath: dp, Errors: none, Drift: none})
	begin := time.Now()
	w.engine.rec = reconcile.New(dp, func() time.Time { return begin.Add(100 * time.Since(begin)) })
	if _, err := w.engine.rec.Compare(); err != nil {
		w.t.Fatal(err)
	}
	w.engine.adopt()
	if err := w.engine.followServices(); err != nil {
		w.t.Fatal(err)
	}
}

// step lets the engine look once at what the tables say. What fails must have a
// time at which it is tried again: the engine's loop looks for nothing else.
func (w *world) step() {
	w.t.Helper()
	snap, _ := w.tables.Snapshot()
	if snap.Synced {
		w.engine.realize(w.t.Context(), snap)
	}
	if failing := w.engine.rec.Failing(); len(failing) > 0 && w.engine.rec.NextTry().IsZero() {
		w.t.Fatalf("nothing will try again what failed: %v", failing)
	}
}

// settle steps until everything is in the kernel.
func (w *world) settle() {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for w.step(); ; w.step() {
		if _, done := w.engine.realized.Revisions(); done == w.tables.Revision() {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not in the kernel after 20 s: %v", w.engine.realized.Failing())
		}
	}
}

func (w *world) must(_ model.Revision, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) apply() { w.must(w.tables.ReplaceSource(w.source)) }

func testPod(i int, labels map[string]string) model.Pod {
	return model.Pod{PodKey: model.PodKey{Namespace: "demo", Name: fmt.Sprintf("pod-%d", i)},
		Labels: labels, ServiceAccount: "default"}
}

func testEndpoint(i int) model.Endpoint {
	return model.Endpoint{
		ID: uint32(i), Slot: uint16(i), Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprintf("pod-%d", i)},
		ContainerID: fmt.Sprintf("c%d", i), IfName: "eth0", HostIfName: fmt.Sprintf("wf%010d", i),
		HostIfIndex: uint32(100 + i), IPv4: netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}),
		MTU: 1500, State: model.EndpointReady,
	}
}

// identities gives every pod of the source an identity, by its labels, and enters
// more.
func (w *world) identities(more ...model.Identity) {
	snap, _ := w.tables.Snapshot()
	labelsOf := LabelsOf(testNode(), snap)
	seen := map[string]bool{}
	ids := slices.Clone(more)
	for _, p := range snap.Pods {
		if labels := labelsOf(p); !seen[labels.Key()] {
			seen[labels.Key()] = true
			ids = append(ids, model.Identity{ID: model.MinClusterIdentity + model.IdentityID(hash(labels.Key())), Labels: labels})
		}
	}
	w.must(w.tables.ReplaceIdentities(ids))
}

// hash is a number that labels always get, whatever the order of events.
func hash(s string) (h uint16) {
	for _, c := range []byte(s) {
		h = h*31 + uint16(c)
	}
	return h
}
