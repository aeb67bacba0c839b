// SPDX-License-Identifier: Apache-2.0

// Package allocator gives each distinct set of identity-relevant labels a
// number. There is one allocator in a cluster, in the operator; on a host
// without Kubernetes the agent runs it in-process.
//
// A number is handed out only after it is stored, so that it means the same
// after a restart. Numbers go round: one that became free is the last to be
// used again, because a node that is behind may still take it for its old
// meaning.
package allocator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// ErrExhausted is returned when every number is in use.
var ErrExhausted = errors.New("no identity is free")

// ErrNotLoaded is returned before Load has succeeded.
var ErrNotLoaded = errors.New("identities have not been loaded")

// ErrTaken is what a store returns that others write to as well, if the number
// of a new identity is there already. The allocator then loads again.
var ErrTaken = errors.New("the number is taken")

// maxTaken bounds how often one allocation loads again.
const maxTaken = 5

// DefaultGrace is how long an identity stays after its last use.
const DefaultGrace = 15 * time.Minute

// Snapshot is what a store holds.
type Snapshot struct {
	Identities []model.Identity
	Next       model.IdentityID // where to look for a free number; 0: after the highest
}

// Change is what a store is to do, all of it or, on an error, none.
type Change struct {
	Put    []model.Identity
	Delete []model.IdentityID
	Next   model.IdentityID // where to look next; a store may ignore it
}

// Store keeps identities over restarts.
type Store interface {
	// Load returns what is stored; of a new store, the zero Snapshot.
	Load(ctx context.Context) (Snapshot, error)
	// Save returns once the change is durable.
	Save(ctx context.Context, c Change) error
}

// Config tells an Allocator what to work with.
type Config struct {
	Store Store
	Now   func() time.Time
	Grace time.Duration    // 0: DefaultGrace
	First model.IdentityID // 0: the first cluster-wide one
	Last  model.IdentityID // 0: the last cluster-wide one

	// Named tells whether someone may still speak of a number that is not
	// allocated: it is not handed out then. Nil: no one does.
	Named func(model.IdentityID) bool
	// Concurrent says that the store takes several changes at once.
	Concurrent bool
	// Batch is how many identities one Change deletes at most, for a store that
	// deletes them one by one; others may allocate between two. 0: all of them.
	Batch int
}

// Allocator is safe for concurrent use.
type Allocator struct {
	cfg    Config
	serial sync.Mutex // one change of the store at a time, unless it is concurrent

	mu       sync.Mutex // not held while the store changes
	loaded   bool
	byID     map[model.IdentityID]*record
	byLabels map[string]*record
	next     model.IdentityID
}

type record struct {
	identity model.Identity
	unused   time.Time     // since when no one uses it; zero: in use
	changes  chan struct{} // nil: it is stored; else closed when it is, or is gone
}

// New makes an allocator; it is of use after Load.
func New(cfg Config) *Allocator {
	cfg.Grace = cmp.Or(cfg.Grace, DefaultGrace)
	cfg.First = cmp.Or(cfg.First, model.MinClusterIdentity)
	cfg.Last = cmp.Or(cfg.Last, model.MinLocalIdentity-1)
	return &Allocator{cfg: cfg}
}

// Load reads the store. Of several numbers with the same labels, which an
// interrupted change of leader can leave behind, the lowest is used; the others
// count as unused.
func (a *Allocator) Load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.load(ctx)
}

// LoadOnce is Load until that has succeeded, and then nothing.
func (a *Allocator) LoadOnce(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded {
		return nil
	}
	return a.load(ctx)
}

// load keeps, of what was known, since when it is unused.
func (a *Allocator) load(ctx context.Context) error {
	snap, err := a.cfg.Store.Load(ctx)
	if err != nil {
		return fmt.Errorf("loading identities: %w", err)
	}
	before := a.byID
	a.byID = make(map[model.IdentityID]*record, len(snap.Identities))
	a.byLabels = make(map[string]*record, len(snap.Identities))
	highest := a.cfg.First - 1
	for _, id := range snap.Identities {
		if id.ID < a.cfg.First || id.ID > a.cfg.Last {
			continue // of a wider range once; it cannot be handed out any more
		}
		r := &record{identity: id}
		if old := before[id.ID]; old != nil && old.identity.Labels.Key() == id.Labels.Key() {
			r = old
		}
		a.remember(r)
		highest = max(highest, id.ID)
	}
	for id, r := range before {
		if r.changes != nil && a.byID[id] == nil {
			a.remember(r)
		}
	}
	if !a.loaded {
		a.next = a.inRange(cmp.Or(snap.Next, highest+1))
	}
	a.loaded = true
	return nil
}

func (a *Allocator) remember(r *record) {
	a.byID[r.identity.ID] = r
	key := r.identity.Labels.Key()
	if other := a.byLabels[key]; other == nil || other.identity.ID > r.identity.ID {
		a.byLabels[key] = r
	}
}

// inRange wraps a number that has run over the end.
func (a *Allocator) inRange(id model.IdentityID) model.IdentityID {
	if id < a.cfg.First || id > a.cfg.Last {
		return a.cfg.First
	}
	return id
}

// Allocate returns the identity of a label set, a new one if it has none yet.
func (a *Allocator) Allocate(ctx context.Context, labels model.Labels) (model.Identity, error) {
	defer a.oneByOne()()
	labels = model.NewLabels(labels...)
	for tries := 0; ; {
		r, found, wait, err := a.reserve(labels)
		if err != nil || found.ID != 0 {
			return found, err
		}
		if wait != nil { // someone else makes it, or removes it
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return model.Identity{}, ctx.Err()
			}
		}
		err = a.create(ctx, r)
		if tries++; err == nil || tries > maxTaken || !errors.Is(err, ErrTaken) {
			return r.identity, err
		}
	}
}

// oneByOne is locked for a store that is not concurrent, until the function that it
// returns is called.
func (a *Allocator) oneByOne() (end func()) {
	if a.cfg.Concurrent {
		return func() {}
	}
	a.serial.Lock()
	return a.serial.Unlock
}

// reserve finds the identity of a label set, or what to wait for, or takes a number
// for it that the caller is to store.
func (a *Allocator) reserve(labels model.Labels) (r *record, found model.Identity, wait chan struct{}, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil, model.Identity{}, nil, ErrNotLoaded
	}
	if r := a.byLabels[labels.Key()]; r != nil {
		if r.changes != nil {
			return nil, model.Identity{}, r.changes, nil
		}
		r.unused = time.Time{}
		return nil, r.identity, nil, nil
	}
	id, err := a.free()
	if err != nil {
		return nil, model.Identity{}, nil, err
	}
	r = &record{identity: model.Identity{ID: id, Labels: labels}, changes: make(chan struct{})}
	a.remember(r)
	a.next = a.inRange(id + 1)
	return r, model.Identity{}, nil, nil
}

// create stores what was reserved. If the number is taken, all is loaded again.
func (a *Allocator) create(ctx context.Context, r *record) error {
	err := a.cfg.Store.Save(ctx, Change{Put: []model.Identity{r.identity}, Next: a.inRange(r.identity.ID + 1)})
	a.mu.Lock()
	defer a.mu.Unlock()
	close(r.changes)
	r.changes = nil
	if err == nil {
		return nil
	}
	err = fmt.Errorf("storing identity %d: %w", r.identity.ID, err)
	a.forget(r)
	if a.next == a.inRange(r.identity.ID+1) {
		a.next = r.identity.ID // no one has taken one since
	}
	if errors.Is(err, ErrTaken) {
		if loadErr := a.load(ctx); loadErr != nil {
			return loadErr
		}
	}
	return err
}

// AllocateAll is Allocate for many label sets, of a store that is not concurrent: what
// is new is stored at once. The identities are in the order of the sets; on an error,
// those of sets that got none are zero.
func (a *Allocator) AllocateAll(ctx context.Context, sets []model.Labels) ([]model.Identity, error) {
	out := make([]model.Identity, len(sets))
	defer a.oneByOne()()
	var fresh []*record
	var full error
	for i, labels := range sets {
		r, found, _, err := a.reserve(model.NewLabels(labels...))
		switch {
		case errors.Is(err, ErrNotLoaded):
			return nil, err
		case err != nil:
			full = err
		case r != nil:
			close(r.changes) // nobody else is let in meanwhile
			r.changes = nil
			fresh = append(fresh, r)
			out[i] = r.identity
		default:
			out[i] = found
		}
	}
	if len(fresh) == 0 {
		return out, full
	}
	if err := a.storeAll(ctx, fresh); err != nil {
		for i, id := range out {
			if _, ok := a.Get(id.ID); !ok {
				out[i] = model.Identity{}
			}
		}
		return out, err
	}
	return out, full
}

// storeAll stores what was reserved, or forgets it.
func (a *Allocator) storeAll(ctx context.Context, fresh []*record) error {
	first, last := fresh[0].identity.ID, fresh[len(fresh)-1].identity.ID
	change := Change{Next: a.inRange(last + 1)}
	for _, r := range fresh {
		change.Put = append(change.Put, r.identity)
	}
	err := a.cfg.Store.Save(ctx, change)
	if err == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range fresh {
		a.forget(r)
	}
	a.next = first
	return fmt.Errorf("storing %d identities from number %d: %w", len(fresh), first, err)
}

// free finds the next number that is not in use.
func (a *Allocator) free() (model.IdentityID, error) {
	total := int(a.cfg.Last-a.cfg.First) + 1
	if len(a.byID) >= total {
		return 0, fmt.Errorf("%w: all %d are in use; leave labels that differ from pod to pod out of identities "+
			"(identityLabels.exclude in the configuration)", ErrExhausted, total)
	}
	id := a.next
	for range total {
		if a.byID[id] == nil && (a.cfg.Named == nil || !a.cfg.Named(id)) {
			return id, nil
		}
		id = a.inRange(id + 1)
	}
	return 0, fmt.Errorf("%w: the few numbers that no WeftIdentity has are still named by endpoints", ErrExhausted)
}

// Get finds an identity by its number.
func (a *Allocator) Get(id model.IdentityID) (model.Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.byID[id]; r != nil && r.changes == nil {
		return r.identity, true
	}
	return model.Identity{}, false
}

// Find tells which identity a label set has, if it has one.
func (a *Allocator) Find(labels model.Labels) (model.Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.byLabels[labels.Key()]; r != nil && r.changes == nil {
		return r.identity, true
	}
	return model.Identity{}, false
}

// Len counts the identities.
func (a *Allocator) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.byID)
}

// List returns all identities, sorted by number.
func (a *Allocator) List() []model.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]model.Identity, 0, len(a.byID))
	for _, r := range a.byID {
		if r.changes == nil {
			out = append(out, r.identity)
		}
	}
	slices.SortFunc(out, func(x, y model.Identity) int { return cmp.Compare(x.ID, y.ID) })
	return out
}
