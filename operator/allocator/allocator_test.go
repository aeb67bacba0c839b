// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/model"
)

func app(name string) model.Labels {
	return model.NewLabels(
		model.Label{Source: model.SourceK8s, Key: "app", Value: name},
		model.Label{Source: model.SourceK8s, Key: "io.kubernetes.pod.namespace", Value: "shop"})
}

// clock is a hand that tests move.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func open(t interface{ Fatal(...any) }, store Store, c *clock, last model.IdentityID) *Allocator {
	a := New(Config{Store: store, Now: c.Now, Grace: time.Minute, Last: last})
	if err := a.Load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAllocate(t interface{ Fatal(...any) }, a *Allocator, name string) model.IdentityID {
	id, err := a.Allocate(context.Background(), app(name))
	if err != nil {
		t.Fatal(err)
	}
	return id.ID
}

func none(model.IdentityID) bool { return false }

func TestEqualLabelsShareOneIdentityOverRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities.json")
	c := &clock{now: time.Unix(1, 0)}
	a := open(t, NewFileStore(path), c, 0)
	first, second := mustAllocate(t, a, "a"), mustAllocate(t, a, "b")
	if first != model.MinClusterIdentity || second != first+1 || mustAllocate(t, a, "a") != first {
		t.Fatalf("got %d, %d", first, second)
	}
	b := open(t, NewFileStore(path), c, 0)
	if !reflect.DeepEqual(a.List(), b.List()) {
		t.Errorf("after a restart: %v, before: %v", b.List(), a.List())
	}
	if got := mustAllocate(t, b, "c"); got != second+1 {
		t.Errorf("next is %d", got)
	}
	if id, ok := b.Get(second); !ok || !reflect.DeepEqual(id.Labels, app("b")) {
		t.Errorf("Get: %v, %v", id, ok)
	}
}

func TestUnusedIdentityIsFreedAfterTheGracePeriodAndNotReusedSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities.json")
	c := &clock{now: time.Unix(1, 0)}
	a := open(t, NewFileStore(path), c, model.MinClusterIdentity+3)
	old, kept := mustAllocate(t, a, "old"), mustAllocate(t, a, "kept")
	sweep := func(want ...model.IdentityID) {
		t.Helper()
		got, err := a.Sweep(context.Background(), func(id model.IdentityID) bool { return id == kept })
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("swept %v, %v; want %v", got, err, want)
		}
	}
	sweep()
	c.now = c.now.Add(59 * time.Second)
	sweep()
	mustAllocate(t, a, "old") // used again: the time starts anew
	c.now = c.now.Add(time.Second)
	sweep()
	c.now = c.now.Add(time.Minute)
	sweep(old)
	a = open(t, NewFileStore(path), c, model.MinClusterIdentity+3)
	for i, want := range []model.IdentityID{kept + 1, kept + 2, old} {
		if got := mustAllocate(t, a, fmt.Sprint("new", i)); got != want {
			t.Errorf("allocation %d got %d, want %d", i, got, want)
		}
	}
	_, err := a.Allocate(context.Background(), app("more"))
	if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "identityLabels.exclude") {
		t.Errorf("a full range: %v", err)
	}
}

func TestNothingIsHandedOutThatIsNotStored(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	a := open(t, NewFileStore(filepath.Join(dir, "identities.json")), &clock{}, 0)
	if _, err := a.Allocate(context.Background(), app("a")); err == nil {
		t.Fatal("allocated without a store")
	}
	if len(a.List()) != 0 {
		t.Error("an identity is left of a failed allocation")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := mustAllocate(t, a, "a"); got != model.MinClusterIdentity {
		t.Errorf("got %d", got)
	}
}

// countingStore counts the writes of a store, and can refuse them.
type countingStore struct {
	Store
	saves int
	fails bool
}

func (s *countingStore) Save(ctx context.Context, c Change) error {
	if s.fails {
		return errors.New("no room")
	}
	s.saves++
	return s.Store.Save(ctx, c)
}

func TestManyAreStoredAtOnce(t *testing.T) {
	store := &countingStore{Store: NewFileStore(filepath.Join(t.TempDir(), "identities.json"))}
	a := open(t, store, &clock{}, model.MinClusterIdentity+2)
	first := mustAllocate(t, a, "a")
	sets := []model.Labels{app("b"), app("a"), app("c"), app("b"), app("d")}
	store.fails = true
	ids, err := a.AllocateAll(t.Context(), sets)
	if err == nil || len(ids) != 5 || ids[1].ID != first || ids[0].ID != 0 || ids[2].ID != 0 || len(a.List()) != 1 {
		t.Fatalf("nothing could be stored: %v, %v, there are %v", ids, err, a.List())
	}
	store.fails, store.saves = false, 0
	ids, err = a.AllocateAll(t.Context(), sets)
	if !errors.Is(err, ErrExhausted) || ids[0].ID != first+1 || ids[1].ID != first || ids[2].ID != first+2 ||
		ids[3].ID != first+1 || ids[4].ID != 0 || store.saves != 1 {
		t.Errorf("three numbers for four label sets: %v, %v, in %d writes", ids, err, store.saves)
	}
	if again := open(t, store, &clock{}, 0); !reflect.DeepEqual(again.List(), a.List()) {
		t.Errorf("stored are %v, handed out %v", again.List(), a.List())
	}
}

func TestNotLoaded(t *testing.T) {
	a := New(Config{Store: NewFileStore("/nowhere"), Now: time.Now})
	if _, err := a.Allocate(context.Background(), nil); !errors.Is(err, ErrNotLoaded) {
		t.Error(err)
	}
	if _, err := a.Sweep(context.Background(), none); !errors.Is(err, ErrNotLoaded) {
		t.Error(err)
	}
}

func TestDamagedFileNamesTheRemedy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identities.json")
	for content, want := range map[string]string{
		"":                        "damaged: unexpected end of JSON input",
		`{"version":1,"next":`:    "damaged: unexpected end",
		`{"version":2}`:           "layout version 2, this release reads version 1",
		`{"version":1,"extra":1}`: `damaged: json: unknown field "extra"`,
		`{"version":1,"identities":[{"id":7,"labels":["k8s:a"]}]}`:                                 "identity 7: not a number",
		`{"version":1,"identities":[{"id":300,"labels":["=x"]}]}`:                                  "identity 300: label",
		`{"version":1,"identities":[{"id":300,"labels":["k8s:a"]},{"id":300,"labels":[]}]}`:        "300 is there twice",
		`{"version":1,"identities":[{"id":300,"labels":["k8s:a"]},{"id":301,"labels":["k8s:a"]}]}`: "300 and 301 have the same labels",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := New(Config{Store: NewFileStore(path), Now: time.Now}).Load(context.Background())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) ||
			!strings.Contains(err.Error(), "restore it from a backup, or move it away") {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

// memory is a store that fails when told to.
type memory struct {
	snap map[model.IdentityID]model.Identity
	next model.IdentityID
	fail bool
}

func (m *memory) Load(context.Context) (Snapshot, error) {
	s := Snapshot{Next: m.next}
	for _, id := range m.snap {
		s.Identities = append(s.Identities, id)
	}
	return s, nil
}

func (m *memory) Save(_ context.Context, c Change) error {
	if m.fail {
		return errors.New("store is away")
	}
	for _, id := range c.Put {
		m.snap[id.ID] = id
	}
	for _, id := range c.Delete {
		delete(m.snap, id)
	}
	m.next = c.Next
	return nil
}

// Whatever happens, one number has one label set as long as anyone uses it,
// equal sets have one number, and the store holds what was handed out.
func TestAllocatorProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		store := &memory{snap: map[model.IdentityID]model.Identity{}}
		c := &clock{now: time.Unix(1, 0)}
		const size = 6
		last := model.MinClusterIdentity + size - 1
		a := open(t, store, c, last)
		used := map[model.IdentityID]string{} // by endpoints, with their labels
		inUse := func(id model.IdentityID) bool { return used[id] != "" }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			store.fail = rapid.IntRange(0, 9).Draw(t, "fails") == 0
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				name := rapid.StringMatching(`[a-j]`).Draw(t, "labels")
				id, err := a.Allocate(ctx, app(name))
				if errors.Is(err, ErrExhausted) && len(a.List()) < size {
					t.Fatalf("exhausted with %d of %d", len(a.List()), size)
				}
				if err != nil {
					continue
				}
				if other := used[id.ID]; other != "" && other != name {
					t.Fatalf("%d is used by %s and given to %s", id.ID, other, name)
				}
				if !reflect.DeepEqual(store.snap[id.ID].Labels, app(name)) {
					t.Fatalf("%d is handed out but not stored", id.ID)
				}
				used[id.ID] = name
			case 3:
				if len(used) > 0 {
					ids := slices.Sorted(maps.Keys(used))
					delete(used, rapid.SampledFrom(ids).Draw(t, "released"))
				}
			case 4:
				c.now = c.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "s")) * time.Second)
				if _, err := a.Sweep(ctx, inUse); err != nil && !store.fail {
					t.Fatal(err)
				}
			case 5:
				store.fail = false
				a = open(t, store, c, last)
			}
			check(t, a, used)
		}
	})
}

func check(t *rapid.T, a *Allocator, used map[model.IdentityID]string) {
	seen := map[string]bool{}
	for _, id := range a.List() {
		if seen[id.Labels.Key()] {
			t.Fatalf("labels of %d have two numbers", id.ID)
		}
		seen[id.Labels.Key()] = true
	}
	for id, name := range used {
		if got, ok := a.Get(id); !ok || !reflect.DeepEqual(got.Labels, app(name)) {
			t.Fatalf("%d, in use as %s, is now %v", id, name, got)
		}
	}
}
