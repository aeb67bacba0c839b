// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/tests/events"
	"github.com/weftmesh/weft/tests/level"
)

func stories(t *testing.T) [][]events.Event {
	t.Helper()
	all, err := events.Stories()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// node is the world as events of every kind see it.
func (w *world) node() *events.Node {
	return &events.Node{Tables: w.tables,
		Identify: func(more []model.Identity) error { w.identities(more...); return nil },
		Device:   func(i int) (uint32, string) { return uint32(100 + i), fmt.Sprintf("wf%010d", i) },
	}
}

// live lets events happen, with the engine looking now and then.
func (w *world) live(random *rand.Rand, all []events.Event) {
	w.t.Helper()
	n := w.node()
	n.Single = random.IntN(2) == 0
	for _, e := range all {
		if err := e.Do(n); err != nil {
			w.t.Fatalf("%s: %v", e.Name, err)
		}
		if random.IntN(3) > 0 {
			w.step()
		}
	}
	w.settle()
}

// desired is what the kernel is to hold, by the tables.
func (w *world) desired() kernel {
	want := reconcile.Want(w.tables)
	k := kernel{rows: want.Endpoints, sets: want.Sets, ips: map[netip.Prefix]model.IPRow{}, on: map[string]uint32{}}
	for _, row := range w.tables.DesiredIPs() {
		k.ips[row.Prefix] = row.IPRow
	}
	for _, row := range want.Endpoints {
		k.on[row.IfName] = row.IfIndex
	}
	frontends, slots, backends := w.tables.DesiredServices()
	k.services.Slots = make(map[uint32][]uint32)
	for _, s := range slots {
		k.services.Slots[s.Service] = s.Backends
	}
	for _, f := range frontends {
		k.services.Frontends = append(k.services.Frontends, f.FrontendRow)
	}
	for _, b := range backends {
		k.services.Backends = append(k.services.Backends, b.BackendRow)
	}
	return k
}

// differences lists the rows in which two kernels differ; "" if there are none.
func differences(got, want kernel) string {
	var b strings.Builder
	differ(&b, "endpoint", got.rows, want.rows)
	differ(&b, "set", got.sets, want.sets)
	differ(&b, "address", got.ips, want.ips)
	differ(&b, "device", got.on, want.on)
	differ(&b, "slots", got.services.Slots, want.services.Slots)
	differ(&b, "front end", byKey(got.services.Frontends, frontendKey), byKey(want.services.Frontends, frontendKey))
	differ(&b, "backend", byKey(got.services.Backends, backendKey), byKey(want.services.Backends, backendKey))
	return b.String()
}

func frontendKey(f model.FrontendRow) model.FrontendKey { return f.FrontendKey }
func backendKey(b model.BackendRow) uint32              { return b.ID }

func byKey[K comparable, V any](rows []V, key func(V) K) map[K]V {
	out := make(map[K]V, len(rows))
	for _, r := range rows {
		out[key(r)] = r
	}
	return out
}

func differ[K comparable, V any](b *strings.Builder, kind string, got, want map[K]V) {
	for k, v := range got {
		if w, ok := want[k]; !ok {
			fmt.Fprintf(b, "\n%s %v is there: %+v", kind, k, v)
		} else if !reflect.DeepEqual(v, w) {
			fmt.Fprintf(b, "\n%s %v is %+v,\n want %+v", kind, k, v, w)
		}
	}
	for k, w := range want {
		if _, ok := got[k]; !ok {
			fmt.Fprintf(b, "\n%s %v is missing, want %+v", kind, k, w)
		}
	}
}

// The life of a node with objects of every kind that come, change and go: the
// kernel ends up with the same maps, whatever the order.
func TestEventsOfEveryKindInAnyOrderGiveTheSameMaps(t *testing.T) {
	var first kernel
	all := stories(t)
	for round := range level.Scale(500) {
		random := rand.New(rand.NewPCG(level.Seed(), uint64(round)))
		w := newWorld(t, fake.New())
		w.live(random, events.Mix(random, all))
		got := dump(t, w.dp)
		if d := differences(got, w.desired()); d != "" {
			t.Fatalf("seed %d, round %d: not what the tables want:%s", level.Seed(), round, d)
		}
		if round == 0 {
			first = got
			if len(got.rows) != 4 || len(got.on) != 4 || len(got.sets) < 3 || len(got.services.Frontends) != 3 {
				t.Fatalf("the kernel holds %d rows, %d devices, %d sets, %d front ends: not the life that was told",
					len(got.rows), len(got.on), len(got.sets), len(got.services.Frontends))
			}
			for prefix, id := range map[string]model.IdentityID{"10.244.8.1/32": 1 << 20, "10.244.8.5/32": 1<<20 + 1, "10.244.8.0/24": model.IdentityUnknown,
				"192.0.2.77/32": model.IdentityRemoteNode, "192.0.2.1/32": model.IdentityRemoteNode, "10.244.7.1/32": 0, "10.244.7.0/24": 0, "192.0.2.79/32": 0} {
				if row := got.ips[netip.MustParsePrefix(prefix)]; row.Identity != id {
					t.Fatalf("%s has identity %d, want %d", prefix, row.Identity, id)
				}
			}
			continue
		}
		if d := differences(got, first); d != "" {
			t.Fatalf("seed %d, round %d: other maps:%s", level.Seed(), round, d)
		}
	}
}

// The same with every kind of write failing now and then, before or after it was
// done.
func TestAnyWriteThatFailsAtRandomEndsInTheRightState(t *testing.T) {
	all := stories(t)
	calm := newWorld(t, fake.New())
	calm.live(rand.New(rand.NewPCG(1, 1)), events.Mix(rand.New(rand.NewPCG(1, 1)), all))
	want := dump(t, calm.dp)
	for round := range level.Scale(200) {
		random := rand.New(rand.NewPCG(level.Seed(), uint64(round)))
		dp := fake.New()
		dp.FailAtRandom(random.Uint64(), 0.2)
		w := newWorld(t, dp)
		w.live(random, events.Mix(random, all))
		if d := differences(dump(t, dp), want); d != "" {
			t.Fatalf("seed %d, round %d: other maps:%s", level.Seed(), round, d)
		}
	}
}
