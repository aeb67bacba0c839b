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
}

// Allocator is safe for concurrent use.
type Allocator struct {
	cfg Config

	mu       sync.Mutex
	loaded   bool
	byID     map[model.IdentityID]*record
	byLabels map[string]*record
	next     model.IdentityID
}

type record struct {
	identity model.Identity
	unused   time.Time // since when no one uses it; zero: in use
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
	snap, err := a.cfg.Store.Load(ctx)
	if err != nil {
		return fmt.Errorf("loading identities: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byID = make(map[model.IdentityID]*record, len(snap.Identities))
	a.byLabels = make(map[string]*record, len(snap.Identities))
	ids := slices.Clone(snap.Identities)
	slices.SortFunc(ids, func(x, y model.Identity) int { return cmp.Compare(x.ID, y.ID) })
	highest := a.cfg.First - 1
	for _, id := range ids {
		if id.ID < a.cfg.First || id.ID > a.cfg.Last {
			continue // of a wider range once; it cannot be handed out any more
		}
		r := &record{identity: id}
		a.byID[id.ID] = r
		if key := id.Labels.Key(); a.byLabels[key] == nil {
			a.byLabels[key] = r
		}
		highest = id.ID
	}
	a.next = a.inRange(cmp.Or(snap.Next, highest+1))
	a.loaded = true
	return nil
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
	ids, err := a.AllocateAll(ctx, []model.Labels{labels})
	if err != nil {
		return model.Identity{}, err
	}
	return ids[0], nil
}

// AllocateAll is Allocate for many label sets, of which what is new is stored at
// once. The identities are in the order of the sets; on an error, those of sets that
// got none are zero.
func (a *Allocator) AllocateAll(ctx context.Context, sets []model.Labels) ([]model.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil, ErrNotLoaded
	}
	out, had := make([]model.Identity, len(sets)), a.next
	var fresh []model.Identity
	var full error
	for i, labels := range sets {
		labels = model.NewLabels(labels...)
		key := labels.Key()
		if r := a.byLabels[key]; r != nil {
			r.unused, out[i] = time.Time{}, r.identity
			continue
		}
		id, err := a.free()
		if err != nil {
			full = err
			continue
		}
		out[i] = model.Identity{ID: id, Labels: labels}
		r := &record{identity: out[i]}
		a.byID[id], a.byLabels[key], a.next = r, r, a.inRange(id+1)
		fresh = append(fresh, out[i])
	}
	if len(fresh) == 0 {
		return out, full
	}
	if err := a.cfg.Store.Save(ctx, Change{Put: fresh, Next: a.next}); err != nil {
		a.next = had
		for _, id := range fresh {
			a.forget(id.ID)
		}
		for i := range out {
			if a.byID[out[i].ID] == nil {
				out[i] = model.Identity{}
			}
		}
		return out, fmt.Errorf("storing %d identities from number %d: %w", len(fresh), fresh[0].ID, err)
	}
	return out, full
}

// free finds the next number that is not in use.
func (a *Allocator) free() (model.IdentityID, error) {
	total := int(a.cfg.Last-a.cfg.First) + 1
	if len(a.byID) >= total {
		return 0, fmt.Errorf("%w: all %d are in use; leave labels that differ from pod to pod out of identities "+
			"(identityLabels.exclude in the configuration)", ErrExhausted, total)
	}
	id := a.next
	for a.byID[id] != nil {
		id = a.inRange(id + 1)
	}
	return id, nil
}

// Sweep frees identities that have been unused for the grace period, and
// returns their numbers. An identity is used while inUse says so; Allocate
// counts as a use at that moment, so that the grace period also covers the
// time until an allocated identity shows in inUse. Call it from time to time.
func (a *Allocator) Sweep(ctx context.Context, inUse func(model.IdentityID) bool) ([]model.IdentityID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil, ErrNotLoaded
	}
	now := a.cfg.Now()
	var gone []model.IdentityID
	for id, r := range a.byID {
		switch {
		case inUse(id):
			r.unused = time.Time{}
		case r.unused.IsZero():
			r.unused = now
		case now.Sub(r.unused) >= a.cfg.Grace:
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	slices.Sort(gone)
	if err := a.cfg.Store.Save(ctx, Change{Delete: gone, Next: a.next}); err != nil {
		return nil, fmt.Errorf("removing %d unused identities: %w", len(gone), err)
	}
	for _, id := range gone {
		a.forget(id)
	}
	return gone, nil
}

func (a *Allocator) forget(id model.IdentityID) {
	r := a.byID[id]
	delete(a.byID, id)
	if key := r.identity.Labels.Key(); a.byLabels[key] == r {
		delete(a.byLabels, key)
	}
}

// Get finds an identity by its number.
func (a *Allocator) Get(id model.IdentityID) (model.Identity, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.byID[id]; r != nil {
		return r.identity, true
	}
	return model.Identity{}, false
}

// List returns all identities, sorted by number.
func (a *Allocator) List() []model.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]model.Identity, 0, len(a.byID))
	for _, r := range a.byID {
		out = append(out, r.identity)
	}
	slices.SortFunc(out, func(x, y model.Identity) int { return cmp.Compare(x.ID, y.ID) })
	return out
}
