// SPDX-License-Identifier: Apache-2.0

package member

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// asked calls when an endpoint is written.
type asked struct {
	*fake.Datapath
	when func()
}

func (a asked) ApplyEndpoint(row model.EndpointRow) error {
	a.when()
	return a.Datapath.ApplyEndpoint(row)
}

// What the agent before has told of its pods stands while the one that starts is still
// at its first state: other nodes would take the pods for unknown.
func TestPodsAreNotTakenBackWhileAnAgentStarts(t *testing.T) {
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	node := engine.Node{Name: "n1", Cluster: "default", Filter: identity.DefaultFilter(),
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	pod := model.Pod{PodKey: model.PodKey{Namespace: "demo", Name: "a"}, Labels: map[string]string{"app": "a"}}
	must := func(_ model.Revision, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tables.ReplaceSource(state.Source{Namespaces: []model.Namespace{{Name: "demo"}}, Pods: []model.Pod{pod}}))
	snap, _ := tables.Snapshot()
	must(tables.ReplaceIdentities([]model.Identity{{ID: model.MinClusterIdentity, Labels: engine.LabelsOf(node, snap)(pod)}}))
	must(tables.UpsertEndpoint(model.Endpoint{ID: 1, Slot: 1, Pod: pod.PodKey, HostIfName: "wf1", HostIfIndex: 11,
		IPv4: netip.MustParseAddr("10.244.1.2"), MTU: 1500, State: model.EndpointReady}))

	m, meanwhile := &Member{}, 0
	none := func(string, int) {}
	dp := asked{Datapath: fake.New(), when: func() {
		meanwhile++
		if list, known := m.podsToTell(); known {
			t.Errorf("before the kernel has its first state the pods %v would be told", list)
		}
	}}
	m.cfg.Engine = engine.New(engine.Config{Log: slog.New(slog.DiscardHandler), Node: node, Tables: tables, Datapath: dp, Errors: none, Drift: none})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.cfg.Engine.Run(ctx) }() // until cancel
	if err := m.cfg.Engine.Realized().WaitFirst(ctx); err != nil {
		t.Error(err)
	}
	if list, known := m.podsToTell(); !known || len(list) != 1 || list[0].Pod != pod.PodKey || meanwhile == 0 {
		t.Errorf("then %v (%v) is told, after %d writes of endpoints", list, known, meanwhile)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
