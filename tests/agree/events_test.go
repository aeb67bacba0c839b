// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/events"
	"github.com/weftmesh/weft/tests/level"
)

// Events of every kind in any order, now with the agent's own loop and the real
// kernel. Each round is a new agent that finds what the one before it left, and
// must end with the same maps as the tables want; so all rounds end with the same.
func TestEventsInAnyOrderGiveTheKernelTheSameMaps(t *testing.T) {
	k := newKernel(t)
	stories, err := events.Stories()
	if err != nil {
		t.Fatal(err)
	}
	var first rows
	for round := range level.Scale(50) {
		random := rand.New(rand.NewPCG(level.Seed(), uint64(round)))
		a := startAgent(t, k)
		a.node.Single = round%2 == 1
		for _, e := range events.Mix(random, stories) {
			if err := e.Do(a.node); err != nil {
				t.Fatalf("%s: %v", e.Name, err)
			}
			// Before the source has spoken the agent does nothing.
			if snap, _ := a.node.Tables.Snapshot(); snap.Synced && random.IntN(4) == 0 {
				a.wait(t)
			}
		}
		a.wait(t)
		a.stop()
		want, got := wanted(a.node.Tables), k.held(t)
		if round == 0 {
			first = want
		}
		for kind, pair := range map[string][3]any{
			"endpoints": {got.Endpoints, want.Endpoints, first.Endpoints}, "sets": {got.Sets, want.Sets, first.Sets},
			"addresses": {got.IPs, want.IPs, first.IPs}, "front ends": {got.Frontends, want.Frontends, first.Frontends},
			"slots": {got.Slots, want.Slots, first.Slots}, "backends": {got.Backends, want.Backends, first.Backends},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) || !reflect.DeepEqual(pair[1], pair[2]) {
				t.Fatalf("seed %d, round %d: the kernel's %s are\n%+v\nwanted are\n%+v\nof the first round\n%+v",
					level.Seed(), round, kind, pair[0], pair[1], pair[2])
			}
		}
	}
}

// agent is the loop between tables and kernel.
type agent struct {
	node   *events.Node
	engine *engine.Engine
	stop   func()
}

func startAgent(t *testing.T, k *kernel) *agent {
	t.Helper()
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	node := engine.Node{Cluster: "default", Filter: identity.DefaultFilter(),
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}}
	none := func(string, int) {}
	a := &agent{engine: engine.New(engine.Config{Log: slog.New(slog.DiscardHandler), Node: node, Tables: tables,
		Datapath: k.dp, Errors: none, Drift: none})}
	a.node = &events.Node{Tables: tables,
		Identify: func(more []model.Identity) error { return identify(tables, node, more) },
		Device:   func(i int) (uint32, string) { return k.devices[i], fmt.Sprint("wf", i) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.engine.Run(ctx) }() // ends with stop
	a.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent's loop ended: %v", err)
		}
	}
	return a
}

// identify adds to identities those of pods: it gives each pod's labels an identity that only they determine.
func identify(tables *state.Tables, node engine.Node, all []model.Identity) error {
	snap, _ := tables.Snapshot()
	labelsOf := engine.LabelsOf(node, snap)
	ids := map[string]model.Identity{}
	for _, p := range snap.Pods {
		labels, hash := labelsOf(p), uint16(0)
		for _, c := range []byte(labels.Key()) {
			hash = hash*31 + uint16(c)
		}
		ids[labels.Key()] = model.Identity{ID: model.MinClusterIdentity + model.IdentityID(hash), Labels: labels}
	}
	all = slices.Clone(all)
	for _, id := range ids {
		all = append(all, id)
	}
	_, err := tables.ReplaceIdentities(all)
	return err
}

// wait until everything that the tables say is in the kernel.
func (a *agent) wait(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if _, done := a.engine.Realized().Revisions(); done == a.node.Tables.Revision() {
			return
		}
	}
	desired, done := a.engine.Realized().Revisions()
	t.Fatalf("revision %d is not in the kernel after 20 s, but %d of %d: %v", a.node.Tables.Revision(), done, desired, a.engine.Realized().Failing())
}

// rows are all that a kernel holds, or is to hold.
type rows struct {
	reconcile.Wanted
	IPs       map[netip.Prefix]model.IPRow
	Frontends map[model.FrontendKey]model.FrontendRow
	Slots     map[uint32][]uint32
	Backends  map[uint32]model.BackendRow
}

func newRows(w reconcile.Wanted) rows {
	return rows{Wanted: w, IPs: make(map[netip.Prefix]model.IPRow), Frontends: make(map[model.FrontendKey]model.FrontendRow),
		Slots: make(map[uint32][]uint32), Backends: make(map[uint32]model.BackendRow)}
}

// wanted is what the tables want.
func wanted(t *state.Tables) rows {
	w := newRows(reconcile.Want(t))
	for _, ip := range t.DesiredIPs() {
		w.IPs[ip.Prefix] = ip.IPRow
	}
	frontends, slots, backends := t.DesiredServices()
	for _, f := range frontends {
		w.Frontends[f.FrontendKey] = f.FrontendRow
	}
	for _, s := range slots {
		w.Slots[s.Service] = s.Backends
	}
	for _, b := range backends {
		w.Backends[b.ID] = b.BackendRow
	}
	return w
}

// held is all that the kernel holds.
func (k *kernel) held(t *testing.T) rows {
	t.Helper()
	w := newRows(reconcile.Wanted{Endpoints: map[uint16]model.EndpointRow{}})
	endpoints, err := k.dp.Endpoints()
	must(t, err)
	ips, err := k.dp.IPs()
	must(t, err)
	services, err := k.dp.Services()
	must(t, err)
	w.Sets, err = k.dp.PolicySets()
	must(t, err)
	for _, e := range endpoints {
		w.Endpoints[e.Slot] = e
	}
	for _, ip := range ips {
		w.IPs[ip.Prefix] = ip
	}
	for _, f := range services.Frontends {
		w.Frontends[f.FrontendKey] = f
	}
	for _, b := range services.Backends {
		w.Backends[b.ID] = b
	}
	w.Slots = services.Slots
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
