// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/operator/allocator"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// A pod that went from the source while no agent ran still has its identity in
// the kernel: a rule that denies it must go on knowing it.
func TestTheIdentityOfARunningPodThatIsNotKnownStays(t *testing.T) {
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	alloc := allocator.New(allocator.Config{
		Store: allocator.NewFileStore(filepath.Join(t.TempDir(), "identities.json")),
		Now:   func() time.Time { return now },
	})
	if err := alloc.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	loop := &identityLoop{log: slog.New(slog.DiscardHandler), tables: tables, allocator: alloc,
		node: engine.Node{Cluster: "default", Filter: identity.DefaultFilter()}}
	labels := model.NewLabels(model.Label{Source: "k8s", Key: "app", Value: "web"})
	if _, err := alloc.Allocate(t.Context(), labels); err != nil {
		t.Fatal(err)
	}
	left := func(endpoints ...model.Endpoint) int {
		for range 3 {
			if err := loop.sync(t.Context(), state.Snapshot{Endpoints: endpoints}); err != nil {
				t.Fatal(err)
			}
			now = now.Add(24 * time.Hour)
		}
		return len(alloc.List())
	}
	if n := left(model.Endpoint{ID: 1, Pod: model.PodKey{Namespace: "demo", Name: "web"}}); n != 1 {
		t.Errorf("%d identities while an unknown pod runs, want 1", n)
	}
	if n := left(); n != 0 {
		t.Errorf("%d identities when it is gone, want 0", n)
	}
}

// onceStore is a store that counts its writes.
type onceStore struct {
	allocator.Store
	saves int
}

func (s *onceStore) Save(ctx context.Context, c allocator.Change) error {
	s.saves++
	return s.Store.Save(ctx, c)
}

// Thousands of pods that are declared at once are one write of the store: an agent
// that wrote it for each of them had minutes of work, and did not end meanwhile.
func TestIdentitiesOfManyPodsAreStoredAtOnce(t *testing.T) {
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	store := &onceStore{Store: allocator.NewFileStore(filepath.Join(t.TempDir(), "identities.json"))}
	alloc := allocator.New(allocator.Config{Store: store, Now: time.Now})
	if err := alloc.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	loop := &identityLoop{log: slog.New(slog.DiscardHandler), tables: tables, allocator: alloc,
		node: engine.Node{Cluster: "default", Filter: identity.DefaultFilter()}}
	var snap state.Snapshot
	for i := range 10_000 {
		snap.Pods = append(snap.Pods, model.Pod{PodKey: model.PodKey{Namespace: "demo", Name: fmt.Sprint(i)},
			Labels: map[string]string{"app": fmt.Sprint(i)}, ServiceAccount: "default"})
	}
	if err := loop.sync(t.Context(), snap); err != nil {
		t.Fatal(err)
	}
	if n := len(alloc.List()); n != len(snap.Pods) || store.saves != 1 {
		t.Errorf("%d identities in %d writes, want %d in one", n, store.saves, len(snap.Pods))
	}
}
