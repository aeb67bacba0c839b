// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// kernel is what a fake kernel holds, in a comparable form.
type kernel struct {
	rows map[uint16]model.EndpointRow
	sets map[model.SetHash]model.PolicySet
	ips  map[netip.Prefix]model.IPRow
	on   map[string]uint32

	services model.ServiceRows
	nodes    []model.NodeRow
	known    map[model.IdentityID]bool
}

func dump(t *testing.T, dp *fake.Datapath) kernel {
	t.Helper()
	k := kernel{rows: map[uint16]model.EndpointRow{}, ips: map[netip.Prefix]model.IPRow{}, known: map[model.IdentityID]bool{}, on: dp.Attached()}
	rows, err := dp.Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		k.rows[r.Slot] = r
	}
	if k.sets, err = dp.PolicySets(); err != nil {
		t.Fatal(err)
	}
	ips, err := dp.IPs()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ips {
		k.ips[r.Prefix] = r
	}
	if k.services, err = dp.Services(); err != nil {
		t.Fatal(err)
	}
	if k.nodes, err = dp.Nodes(); err != nil {
		t.Fatal(err)
	}
	known, err := dp.Identities()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range known {
		k.known[id] = true
	}
	return k
}

func rule(dir model.Direction, action model.Action, name string, peer model.Peer) model.Rule {
	return model.Rule{Direction: dir, Action: action, Name: name, Peers: []model.Peer{peer}}
}

func selecting(key, value string) model.Selector {
	return model.Selector{Requirements: []model.Requirement{{Source: "any", Key: key, Operator: model.OpIn, Values: []string{value}}}}
}

// scene is a small world: three pods, two policies, one prefix.
func scene() state.Source {
	web := selecting("app", "web")
	client := selecting("app", "client")
	return state.Source{
		Pods: []model.Pod{
			testPod(1, map[string]string{"app": "web"}),
			testPod(2, map[string]string{"app": "client"}),
			testPod(3, map[string]string{"app": "web"}),
		},
		Policies: []model.Policy{
			{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "out"}, Subject: client,
				Isolate: [2]bool{model.Egress: true},
				Rules: []model.Rule{rule(model.Egress, model.ActionAllow, "egress[0]",
					model.Peer{CIDR: netip.MustParsePrefix("192.0.2.0/24"), Except: []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}})}},
			{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "web"}, Subject: web,
				Isolate: [2]bool{model.Ingress: true},
				Rules:   []model.Rule{rule(model.Ingress, model.ActionAllow, "ingress[0]", model.Peer{Selector: &client})}},
		},
	}
}

// The events of a scene, each of which may come at any time.
func (w *world) events() []func() {
	full := scene()
	return []func(){
		func() { w.source.Pods = full.Pods; w.apply(); w.identities() },
		func() { w.source.Policies = full.Policies; w.apply() },
		func() { w.must(w.tables.UpsertEndpoint(testEndpoint(1))) },
		func() { w.must(w.tables.UpsertEndpoint(testEndpoint(2))) },
		func() { w.must(w.tables.UpsertEndpoint(testEndpoint(3))) },
		func() { w.must(w.tables.ReplaceHostAddrs([]netip.Addr{netip.MustParseAddr("192.0.2.1")})) },
		func() { w.must(w.tables.UpsertEndpoint(testEndpoint(4))); w.must(w.tables.DeleteEndpoint(4)) },
	}
}

func TestEventsInAnyOrderGiveTheSameMaps(t *testing.T) {
	var first kernel
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		w := newWorld(t, fake.New())
		events := w.events()
		random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, event := range events {
			event()
			if random.IntN(2) == 0 {
				w.step()
			}
		}
		w.settle()
		got := dump(t, w.dp)
		if round == 0 {
			first = got
			if len(got.rows) != 3 || len(got.on) != 3 {
				t.Fatalf("the kernel holds %d rows and %d devices, want 3", len(got.rows), len(got.on))
			}
			continue
		}
		if !reflect.DeepEqual(first, got) {
			t.Fatalf("round %d: other maps\n got %+v\nwant %+v", round, got, first)
		}
	}
}

func TestWritesThatFailAtRandomEndInTheRightState(t *testing.T) {
	calm := newWorld(t, fake.New())
	for _, event := range calm.events() {
		event()
	}
	calm.settle()
	want := dump(t, calm.dp)
	for seed := range uint64(10) {
		dp := fake.New()
		dp.FailAtRandom(seed, 0.3)
		w := newWorld(t, dp)
		for _, event := range w.events() {
			event()
			w.step()
		}
		w.settle()
		if got := dump(t, dp); !reflect.DeepEqual(want, got) {
			t.Fatalf("seed %d: other maps\n got %+v\nwant %+v", seed, got, want)
		}
	}
}

func TestARestartedAgentWritesNothingThatIsRight(t *testing.T) {
	dp := fake.New()
	first := newWorld(t, dp)
	for _, event := range first.events() {
		event()
	}
	first.settle()
	before, attached := dp.Writes(), len(dp.Attached())

	second := newWorld(t, dp)
	second.step() // its source has said nothing yet
	if dp.Writes() != before {
		t.Fatalf("%d writes before the source was read", dp.Writes()-before)
	}
	for _, event := range second.events() {
		event()
	}
	second.settle()
	if n := dp.Writes() - before; n > attached {
		t.Errorf("%d writes, want at most one for each of %d devices", n, attached)
	}
}

func TestARowChangedBehindOurBackIsMended(t *testing.T) {
	w := newWorld(t, fake.New())
	for _, event := range w.events() {
		event()
	}
	w.settle()
	want := dump(t, w.dp)
	w.dp.Corrupt(2, func(row *model.EndpointRow) { row.EnforceEgress = false })
	w.engine.compare()
	w.settle()
	w.step()
	if got := dump(t, w.dp); !reflect.DeepEqual(want, got) {
		t.Errorf("the row was not mended: %+v", got.rows[2])
	}
}

func TestAnEndpointWithoutIdentityWaitsAndSaysSo(t *testing.T) {
	w := newWorld(t, fake.New())
	w.source.Pods = scene().Pods
	w.apply()
	w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
	w.step()
	if rows, _ := w.dp.Endpoints(); len(rows) != 0 {
		t.Fatalf("an endpoint without identity has a row: %+v", rows)
	}
	if _, done := w.engine.Realized().Revisions(); done == w.tables.Revision() {
		t.Error("the revision counts as realized before the endpoint has its identity")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := w.engine.Realized().WaitEndpoint(ctx, 1, w.tables.Revision())
	if err == nil || !strings.Contains(err.Error(), "an identity for pod demo/pod-1") {
		t.Errorf("waiting gives %v", err)
	}
	if shown := w.engine.View().Endpoints; len(shown) != 1 || shown[0].ID != 1 {
		t.Errorf("shown are %+v, want the endpoint that waits", shown)
	}
	w.identities()
	w.settle()
}

// Before its identity is known again after a restart, a running endpoint keeps
// what the kernel has for it.
func TestARunningEndpointKeepsItsRowWhileItsIdentityIsUnknown(t *testing.T) {
	dp := fake.New()
	first := newWorld(t, dp)
	for _, event := range first.events() {
		event()
	}
	first.settle()
	want := dump(t, dp).rows[1]

	second := newWorld(t, dp)
	second.source = scene()
	second.apply() // pods and policies, but no identities
	second.must(second.tables.UpsertEndpoint(testEndpoint(1)))
	second.step()
	got := dump(t, dp)
	if got.rows[1] != want || got.ips[netip.MustParsePrefix("10.244.0.1/32")].Slot != 1 {
		t.Errorf("the row became %+v, want %+v", got.rows[1], want)
	}
	if _, ok := got.sets[want.Set]; !ok {
		t.Error("its policy set is gone")
	}
}
