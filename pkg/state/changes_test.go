// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

// Whatever objects come and go, one by one or several at once, the tables are those
// of a source that says everything anew.
func TestChangesEndWhereTheWholeWordEnds(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		one, whole := newTables(t), newTables(t)
		edit := must(t)
		said := map[string]Source{}
		for i := range 2 { // of six pods, two are attached
			for _, tables := range []*Tables{one, whole} {
				edit(tables.UpsertEndpoint(model.Endpoint{ID: uint32(i + 1), Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprint(i)}}))
			}
		}
		for _, tables := range []*Tables{one, whole} {
			edit(tables.ReplaceSource(Source{}))
		}
		for range 40 {
			edit(one.Apply(randomChanges(random, said)))
			edit(whole.ReplaceSource(merge(said)))
			got, _ := one.Snapshot()
			want, _ := whole.Snapshot()
			services := [2][]any{servicesOf(one), servicesOf(whole)}
			got = Snapshot{Pods: got.Pods, Namespaces: got.Namespaces, Policies: got.Policies}
			want = Snapshot{Pods: want.Pods, Namespaces: want.Namespaces, Policies: want.Policies}
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(services[0], services[1]) {
				t.Fatalf("seed %d: changes give\n%+v, %v\nthe whole word\n%+v, %v", seed, got, services[0], want, services[1])
			}
		}
	}
}

func servicesOf(t *Tables) []any {
	txn := t.db.ReadTxn()
	return []any{collect(txn, t.services.ToTable()), collect(txn, t.slices.ToTable())}
}

// randomChanges changes one to three objects of what was said, of any kind.
func randomChanges(random *rand.Rand, said map[string]Source) (c Changes) {
	names := random.Perm(6)[:1+random.IntN(3)]
	for _, n := range names {
		name, kind, version := fmt.Sprint(n), random.IntN(5), fmt.Sprint(random.IntN(2))
		object := fmt.Sprint(kind, " ", n)
		if _, ok := said[object]; ok && random.IntN(2) == 0 {
			delete(said, object)
			addGone(&c.Gone, kind, name)
			continue
		}
		said[object] = oneObject(random, kind, name, version)
	}
	changed := map[string]Source{}
	for _, n := range names {
		for kind := range 5 {
			object := fmt.Sprint(kind, " ", n)
			if s, ok := said[object]; ok {
				changed[object] = s
			}
		}
	}
	c.Put = merge(changed)
	return c
}

func addGone(g *Gone, kind int, name string) {
	switch kind {
	case 0:
		g.Pods = append(g.Pods, model.PodKey{Namespace: "demo", Name: name})
	case 1:
		g.Namespaces = append(g.Namespaces, name)
	case 2:
		g.Services = append(g.Services, model.ServiceKey{Namespace: "demo", Name: name})
	case 3:
		g.EndpointSlices = append(g.EndpointSlices, model.EndpointSliceKey{Namespace: "demo", Name: name})
	case 4:
		g.Policies = append(g.Policies, model.PolicyKey{Kind: "NetworkPolicy", Namespace: "demo", Name: name})
	}
}

func oneObject(random *rand.Rand, kind int, name, version string) (s Source) {
	labels := map[string]string{"version": version}
	switch kind {
	case 0:
		s.Pods = []model.Pod{{PodKey: model.PodKey{Namespace: "demo", Name: name}, Labels: labels}}
	case 1:
		s.Namespaces = []model.Namespace{{Name: name, Labels: labels}}
	case 2:
		s.Services = []model.Service{{ServiceKey: model.ServiceKey{Namespace: "demo", Name: name}, Source: version}}
	case 3:
		s.EndpointSlices = []model.EndpointSlice{{EndpointSliceKey: model.EndpointSliceKey{Namespace: "demo", Name: name}, Source: version}}
	case 4:
		for range 1 + random.IntN(3) {
			s.Policies = append(s.Policies, model.Policy{
				Key: model.PolicyKey{Kind: "NetworkPolicy", Namespace: "demo", Name: name}, Source: version})
		}
	}
	return s
}

func merge(said map[string]Source) (all Source) {
	for _, object := range slices.Sorted(maps.Keys(said)) {
		s := said[object]
		all.Pods = append(all.Pods, s.Pods...)
		all.Namespaces = append(all.Namespaces, s.Namespaces...)
		all.Services = append(all.Services, s.Services...)
		all.EndpointSlices = append(all.EndpointSlices, s.EndpointSlices...)
		all.Policies = append(all.Policies, s.Policies...)
	}
	return all
}

func TestChangesThatChangeNothingAreNoRevision(t *testing.T) {
	tables, edit := newTables(t), must(t)
	pod := model.Pod{PodKey: model.PodKey{Namespace: "demo", Name: "web"}}
	if edit(tables.Apply(Changes{Put: Source{Pods: []model.Pod{pod}}})); tables.Synced() {
		t.Error("a single object counts as the source's first whole state")
	}
	before := tables.Revision()
	edit(tables.Apply(Changes{Put: Source{Pods: []model.Pod{pod}},
		Gone: Gone{Namespaces: []string{"other"}, Policies: []model.PolicyKey{{Kind: "NetworkPolicy", Name: "none"}}}}))
	if now := tables.Revision(); now != before {
		t.Errorf("nothing changed, and the revision moved from %d to %d", before, now)
	}
}
