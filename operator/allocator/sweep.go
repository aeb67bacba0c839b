// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// Sweep frees identities that have been unused for the grace period, and
// returns their numbers. An identity is used while inUse says so; Allocate
// counts as a use at that moment, so that the grace period also covers the
// time until an allocated identity shows in inUse. Call it from time to time.
func (a *Allocator) Sweep(ctx context.Context, inUse func(model.IdentityID) bool) ([]model.IdentityID, error) {
	defer a.oneByOne()()
	due, err := a.due(inUse)
	if err != nil {
		return nil, err
	}
	batch := a.cfg.Batch
	if batch == 0 {
		batch = max(len(due), 1)
	}
	var gone []model.IdentityID
	for part := range slices.Chunk(due, batch) {
		freed, err := a.release(ctx, part)
		gone = append(gone, freed...)
		if err != nil {
			return gone, err
		}
	}
	return gone, nil
}

// due notes what is in use, and returns what has long been unused.
func (a *Allocator) due(inUse func(model.IdentityID) bool) ([]model.IdentityID, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil, ErrNotLoaded
	}
	now := a.cfg.Now()
	var due []model.IdentityID
	for id, r := range a.byID {
		switch {
		case r.changes != nil:
		case inUse(id):
			r.unused = time.Time{}
		case r.unused.IsZero():
			r.unused = now
		case now.Sub(r.unused) >= a.cfg.Grace:
			due = append(due, id)
		}
	}
	slices.Sort(due)
	return due, nil
}

// release deletes those that no one has allocated since.
func (a *Allocator) release(ctx context.Context, ids []model.IdentityID) ([]model.IdentityID, error) {
	records, next := a.leaving(ids)
	if len(records) == 0 {
		return nil, nil
	}
	gone := make([]model.IdentityID, len(records))
	for i, r := range records {
		gone[i] = r.identity.ID
	}
	err := a.cfg.Store.Save(ctx, Change{Delete: gone, Next: next})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range records {
		close(r.changes)
		r.changes = nil
		if err == nil {
			a.forget(r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("removing %d unused identities: %w", len(gone), err)
	}
	return gone, nil
}

// leaving marks them, so that no one is given one while it is deleted.
func (a *Allocator) leaving(ids []model.IdentityID) (out []*record, next model.IdentityID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		if r := a.byID[id]; r != nil && r.changes == nil && !r.unused.IsZero() {
			r.changes = make(chan struct{})
			out = append(out, r)
		}
	}
	return out, a.next
}

// forget leaves the labels to another number that has them.
func (a *Allocator) forget(r *record) {
	if a.byID[r.identity.ID] == r {
		delete(a.byID, r.identity.ID)
	}
	key := r.identity.Labels.Key()
	if a.byLabels[key] != r {
		return
	}
	delete(a.byLabels, key)
	for _, other := range a.byID {
		if other.identity.Labels.Key() == key {
			a.remember(other)
		}
	}
}

// Learn takes in an identity that the store has, whoever wrote it. It returns
// whether it is news: a leader's last word that came late, or a hand's.
func (a *Allocator) Learn(identity model.Identity) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded || identity.ID < a.cfg.First || identity.ID > a.cfg.Last {
		return false
	}
	if r := a.byID[identity.ID]; r != nil {
		if r.identity.Labels.Key() == identity.Labels.Key() {
			return false
		}
		a.forget(r)
	}
	a.remember(&record{identity: identity})
	return true
}

// Missed is told that the store no longer has an identity. One that was not
// freed here is stored again under its number, since nodes use it; it returns
// whether that was so.
func (a *Allocator) Missed(ctx context.Context, id model.IdentityID) (bool, error) {
	defer a.oneByOne()()
	identity, known := a.Get(id)
	if !known {
		return false, nil
	}
	_, next := a.leaving(nil)
	err := a.cfg.Store.Save(ctx, Change{Put: []model.Identity{identity}, Next: next})
	if errors.Is(err, ErrTaken) {
		return false, nil // the news was old
	}
	if err != nil {
		return false, fmt.Errorf("storing identity %d again: %w", id, err)
	}
	return true, nil
}
