// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/model"
)

// api is a store that several allocators write to, as the API server is: it takes
// a number once, and only from the leader, whose last word may come late.
type api struct {
	objects map[model.IdentityID]model.Identity
	leader  int
	fail    bool
	newest  model.IdentityID
}

// client is one operator's way to it.
type client struct {
	*api
	self int
	late bool // what it sends next arrives though it no longer leads
}

func (c *client) Load(context.Context) (Snapshot, error) {
	s := Snapshot{}
	for _, id := range c.objects {
		s.Identities = append(s.Identities, id)
	}
	if c.newest != 0 {
		s.Next = c.newest + 1
	}
	return s, nil
}

func (c *client) Save(_ context.Context, change Change) error {
	if c.self != c.leader && !c.late {
		return errors.New("not the leader")
	}
	if c.fail {
		return errors.New("the API server is away")
	}
	for _, id := range change.Put {
		if _, there := c.objects[id.ID]; there {
			return fmt.Errorf("%d: %w", id.ID, ErrTaken)
		}
		c.objects[id.ID], c.newest = id, id.ID
	}
	for _, id := range change.Delete {
		delete(c.objects, id)
	}
	return nil
}

// labelsFor are a pod's: its own, and those of its namespace, which change.
func labelsFor(ns, pod string, nsLabel int) model.Labels {
	return model.NewLabels(
		model.Label{Source: model.SourceK8s, Key: "app", Value: pod},
		model.Label{Source: model.SourceK8s, Key: model.LabelNamespace, Value: ns},
		model.Label{Source: model.SourceK8s, Key: model.LabelNamespacePrefix + "team", Value: fmt.Sprint(nsLabel)})
}

// mesh is a cluster in which operators follow each other.
type mesh struct {
	t        *rapid.T
	api      *api
	clock    *clock
	last     model.IdentityID
	alloc    *Allocator
	old      []*Allocator
	clients  []*client
	nsLabels map[string]int
	pods     map[[2]string]bool
	slices   map[[2]string]model.Identity // what nodes say of pods, which may be old
}

func (m *mesh) named(id model.IdentityID) bool {
	for _, i := range m.slices {
		if i.ID == id {
			return true
		}
	}
	return false
}

func (m *mesh) elect() {
	m.api.leader++
	c := &client{api: m.api, self: m.api.leader}
	m.clients = append(m.clients, c)
	if m.alloc != nil {
		m.old = append(m.old, m.alloc)
	}
	m.alloc = New(Config{Store: c, Now: m.clock.Now, Grace: time.Minute, Last: m.last, Named: m.named, Batch: 1, Concurrent: true})
	if err := m.alloc.Load(context.Background()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mesh) labels(p [2]string) model.Labels { return labelsFor(p[0], p[1], m.nsLabels[p[0]]) }

func (m *mesh) step() {
	ctx, t := context.Background(), m.t
	m.api.fail = rapid.IntRange(0, 9).Draw(t, "away") == 0
	p := [2]string{rapid.StringMatching(`[xy]`).Draw(t, "namespace"), rapid.StringMatching(`[a-e]`).Draw(t, "pod")}
	switch rapid.IntRange(0, 11).Draw(t, "what") {
	case 0, 1, 2, 3: // a pod is made, and its node learns the identity from the API
		m.pods[p] = true
		id, err := m.alloc.Allocate(ctx, m.labels(p))
		if err != nil {
			return
		}
		if got := m.api.objects[id.ID]; !reflect.DeepEqual(got.Labels, m.labels(p)) {
			t.Fatalf("%d was handed out for %v, and stands for %v", id.ID, m.labels(p), got.Labels)
		}
		m.slices[p] = id
	case 4: // it goes; its node says so
		delete(m.pods, p)
		delete(m.slices, p)
	case 5: // it goes; its node is late
		delete(m.pods, p)
	case 6:
		m.nsLabels[p[0]]++
	case 7:
		m.elect()
	case 8: // the old leader's last words
		if n := len(m.old); n > 0 {
			m.clients[n-1].late = true
			id, err := m.old[n-1].Allocate(ctx, m.labels(p))
			m.clients[n-1].late = false
			if err == nil && rapid.Bool().Draw(t, "seen") {
				m.alloc.Learn(m.api.objects[id.ID])
			}
		}
	case 9: // a hand deletes
		if len(m.api.objects) > 0 {
			id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.api.objects))).Draw(t, "deleted")
			delete(m.api.objects, id)
			m.api.fail = false
			if _, err := m.alloc.Missed(ctx, id); err != nil {
				t.Fatal(err)
			}
			if _, known := m.alloc.Get(id); known && m.api.objects[id].ID != id {
				t.Fatalf("%d is known and not stored", id)
			}
		}
	default:
		m.clock.now = m.clock.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
		if _, err := m.alloc.Sweep(ctx, m.inUse()); err != nil && !m.api.fail {
			t.Fatal(err)
		}
	}
}

func (m *mesh) inUse() func(model.IdentityID) bool {
	used := map[model.IdentityID]bool{m.api.newest: true}
	for p := range m.pods {
		if id, ok := m.alloc.Find(m.labels(p)); ok {
			used[id.ID] = true
		}
	}
	return func(id model.IdentityID) bool { return used[id] || m.named(id) }
}

// While pods come and go, namespaces change and leaders follow each other, a
// number that any node still speaks of stands for what it stood for then, or for
// nothing; and a new leader hands out nothing before it knows all.
func TestNoNumberHasTwoMeanings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &mesh{t: t, api: &api{objects: map[model.IdentityID]model.Identity{}}, clock: &clock{now: time.Unix(1, 0)},
			last:     model.MinClusterIdentity + model.IdentityID(rapid.IntRange(2, 12).Draw(t, "numbers")),
			nsLabels: map[string]int{}, pods: map[[2]string]bool{}, slices: map[[2]string]model.Identity{}}
		m.elect()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			m.step()
			for p, said := range m.slices {
				if is, there := m.api.objects[said.ID]; there && !reflect.DeepEqual(is.Labels, said.Labels) {
					t.Fatalf("a node says that %v is %d, which stood for %v and stands for %v", p, said.ID, said.Labels, is.Labels)
				}
			}
		}
	})
}

func TestOfTwoWithTheSameLabelsTheLowestCounts(t *testing.T) {
	ctx, c := context.Background(), &clock{now: time.Unix(1, 0)}
	store := &client{api: &api{objects: map[model.IdentityID]model.Identity{}}}
	a := New(Config{Store: store, Now: c.Now, Grace: time.Minute, Batch: 1})
	if err := a.Load(ctx); err != nil {
		t.Fatal(err)
	}
	store.objects[300] = model.Identity{ID: 300, Labels: app("a")} // not yet seen
	if got := mustAllocate(t, a, "a"); got != model.MinClusterIdentity {
		t.Fatalf("got %d", got)
	}
	if !a.Learn(store.objects[300]) || a.Learn(store.objects[300]) {
		t.Error("news are news once")
	}
	if got := mustAllocate(t, a, "a"); got != model.MinClusterIdentity {
		t.Errorf("the higher one counts: %d", got)
	}
	for range 2 {
		if _, err := a.Sweep(ctx, func(id model.IdentityID) bool { return id == model.MinClusterIdentity }); err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(time.Minute)
	}
	if len(store.objects) != 1 || store.objects[model.MinClusterIdentity].ID == 0 {
		t.Errorf("left: %v", store.objects)
	}
	// The lowest goes: the labels are the other one's.
	a.Learn(model.Identity{ID: 301, Labels: app("a")})
	if again, err := a.Missed(ctx, 999); again || err != nil {
		t.Errorf("one that was never there: %v, %v", again, err)
	}
	delete(store.objects, model.MinClusterIdentity)
	if again, err := a.Missed(ctx, model.MinClusterIdentity); !again || err != nil {
		t.Errorf("one that is known: %v, %v", again, err)
	}
}

func TestATakenNumberIsLoadedNotHandedOut(t *testing.T) {
	ctx := context.Background()
	store := &client{api: &api{objects: map[model.IdentityID]model.Identity{}}}
	a := New(Config{Store: store, Now: time.Now})
	if err := a.LoadOnce(ctx); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"b", "a"} {
		id := model.MinClusterIdentity + model.IdentityID(i)
		store.objects[id] = model.Identity{ID: id, Labels: app(name)}
	}
	if got := mustAllocate(t, a, "a"); got != model.MinClusterIdentity+1 {
		t.Errorf("labels that are stored got %d", got)
	}
	if got := mustAllocate(t, a, "c"); got != model.MinClusterIdentity+2 {
		t.Errorf("others got %d", got)
	}
}

// slow is a store that answers late, in any order, and knows how many it works for.
type slow struct {
	client
	mu               sync.Mutex
	calls, busy, top int
}

func (s *slow) Load(ctx context.Context) (Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client.Load(ctx)
}

func (s *slow) Save(ctx context.Context, c Change) error {
	s.mu.Lock()
	s.busy++
	s.calls++
	s.top = max(s.top, s.busy)
	late := time.Duration(s.calls*397%1000) * time.Microsecond
	s.mu.Unlock()
	select {
	case <-time.After(late):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	return s.client.Save(ctx, c)
}

// Many allocate, some the same, while unused ones are collected, others write to
// the store, and some requests fail: equal labels get equal numbers, and each
// number that was handed out is stored with its labels.
func TestManyAllocateAtOnce(t *testing.T) {
	const workers, rounds, sets = 16, 60, 40
	ctx := t.Context()
	store := &slow{client: client{api: &api{objects: map[model.IdentityID]model.Identity{}}}}
	a := New(Config{Store: store, Now: time.Now, Grace: time.Nanosecond, Batch: 1, Concurrent: true})
	if err := a.Load(ctx); err != nil {
		t.Fatal(err)
	}
	var work errgroup.Group
	for w := range workers {
		work.Go(func() error {
			for i := range rounds {
				name := fmt.Sprint("set-", (w*7+i)%sets)
				id, err := a.Allocate(ctx, app(name))
				if err != nil {
					return err
				}
				if !reflect.DeepEqual(id.Labels, app(name)) {
					return fmt.Errorf("%s got %v", name, id)
				}
			}
			return nil
		})
	}
	work.Go(func() error { // someone else makes some, in the way
		for i := range rounds {
			store.mu.Lock()
			id := model.MinClusterIdentity + model.IdentityID(3*i)
			if _, there := store.objects[id]; !there {
				store.objects[id] = model.Identity{ID: id, Labels: app(fmt.Sprint("other-", i))}
			}
			store.mu.Unlock()
			if _, err := a.Sweep(ctx, func(id model.IdentityID) bool { return id%2 == 0 }); err != nil {
				return err
			}
		}
		return nil
	})
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
	if store.top < 2 {
		t.Errorf("at most %d at once", store.top)
	}
	seen := map[string]model.IdentityID{}
	for _, id := range a.List() {
		if is := store.objects[id.ID]; !reflect.DeepEqual(is, id) {
			t.Errorf("%v is handed out, %v is stored", id, is)
		}
		if other := seen[id.Labels.Key()]; other != 0 {
			t.Errorf("%d and %d have the same labels", other, id.ID)
		}
		seen[id.Labels.Key()] = id.ID
	}
}
