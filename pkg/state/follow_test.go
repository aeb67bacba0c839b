// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// A follower that looks while objects come and go misses none, whenever it looks:
// what it was told up to a snapshot is what the tables hold in it.
func TestAFollowerMissesNothing(t *testing.T) {
	tables, edit := newTables(t), must(t)
	edit(tables.ReplaceSource(Source{Services: []model.Service{{ServiceKey: model.ServiceKey{Name: "first"}}}}))
	follower, err := tables.FollowServices()
	if err != nil {
		t.Fatal(err)
	}
	const changes = 5000
	var writer sync.WaitGroup
	writer.Go(func() {
		random := rand.New(rand.NewPCG(1, 2))
		for i := range changes {
			var c Changes
			name := fmt.Sprint(random.IntN(20))
			switch random.IntN(4) {
			case 0:
				c.Gone.Services = []model.ServiceKey{{Name: name}}
			case 1:
				c.Gone.EndpointSlices = []model.EndpointSliceKey{{Name: name}}
			case 2:
				c.Put.Services = []model.Service{{ServiceKey: model.ServiceKey{Name: name}, Source: fmt.Sprint(i)}}
			default:
				c.Put.EndpointSlices = []model.EndpointSlice{{EndpointSliceKey: model.EndpointSliceKey{Name: name}, Source: fmt.Sprint(i)}}
			}
			if _, err := tables.Apply(c); err != nil {
				t.Error(err)
			}
		}
		if _, err := tables.Apply(Changes{Put: Source{Namespaces: []model.Namespace{{Name: "last"}}}}); err != nil {
			t.Error(err)
		}
	})
	services, slices := map[string]model.Service{}, map[string]model.EndpointSlice{}
	for done := false; !done; {
		snap, _ := tables.Snapshot()
		ch := follower.Next(snap)
		for _, k := range ch.GoneServices {
			delete(services, k.Name)
		}
		for _, k := range ch.GoneSlices {
			delete(slices, k.Name)
		}
		for _, s := range ch.Services {
			services[s.Name] = s
		}
		for _, s := range ch.Slices {
			slices[s.Name] = s
		}
		hold, parts := map[string]model.Service{}, map[string]model.EndpointSlice{}
		for s := range tables.services.All(snap.txn) {
			hold[s.Name] = s
		}
		for s := range tables.slices.All(snap.txn) {
			parts[s.Name] = s
		}
		if !reflect.DeepEqual(services, hold) || !reflect.DeepEqual(slices, parts) {
			t.Fatalf("revision %d: told of\n%v %v\nheld are\n%v %v", snap.Revision, services, slices, hold, parts)
		}
		done = len(snap.Namespaces) > 0
	}
	writer.Wait()
}

func TestBasisIsAnotherUnlessOnlyServicesChange(t *testing.T) {
	tables, edit := newTables(t), must(t)
	at := func() (model.Revision, Basis) { s, _ := tables.Snapshot(); return s.Revision, s.Basis }
	edit(tables.ReplaceSource(Source{}))
	rev, basis := at()
	edit(tables.Apply(Changes{Put: Source{Services: []model.Service{{ServiceKey: model.ServiceKey{Name: "web"}}}}}))
	if now, same := at(); now == rev || same != basis {
		t.Errorf("a service moved the basis from %v to %v, the revision from %d to %d", basis, same, rev, now)
	}
	for what, change := range map[string]func() (model.Revision, error){
		"pod": func() (model.Revision, error) { return tables.Apply(Changes{Put: Source{Pods: []model.Pod{{}}}}) },
		"policy": func() (model.Revision, error) {
			return tables.Apply(Changes{Put: Source{Policies: []model.Policy{{}}}})
		},
		"endpoint": func() (model.Revision, error) { return tables.UpsertEndpoint(model.Endpoint{ID: 1}) },
		"identity": func() (model.Revision, error) { return tables.ReplaceIdentities([]model.Identity{{ID: 300}}) },
	} {
		_, before := at()
		edit(change())
		if _, after := at(); after == before {
			t.Errorf("a %s left the basis at %v", what, before)
		}
	}
}
