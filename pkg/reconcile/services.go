// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// ServiceTarget holds front ends, slots and backends.
type ServiceTarget interface {
	FrontendTarget
	BackendTarget
}

// FrontendTarget holds front ends. Writing is idempotent; removing what is not
// there succeeds.
type FrontendTarget interface {
	ApplyFrontends([]model.FrontendRow) error
	DeleteFrontends([]model.FrontendKey) error
}

// BackendTarget holds backends and the slots that name them.
type BackendTarget interface {
	ApplyBackends([]model.BackendRow) error
	DeleteBackends(ids []uint32) error
	ApplySlots(model.SlotTable) error
	TrimSlots(service, from, to uint32) error
}

// services are the three kinds of rows that lead from a service's address to a
// backend. No row is written before what it leads to, nor removed after it.
type services struct {
	dp        ServiceTarget
	frontends *tracked[model.FrontendKey, model.FrontendRow]
	slots     *tracked[uint32, []uint32]
	backends  *tracked[uint32, model.BackendRow]
	// users are the services whose slots may name a backend, and others.
	users map[uint32][]uint32
}

func newServices(dp ServiceTarget) *services {
	return &services{
		dp:        dp,
		frontends: newTracked[model.FrontendKey]("front end", func(a, b model.FrontendRow) bool { return a == b }),
		slots:     newTracked[uint32]("slots of service", slices.Equal[[]uint32]),
		backends:  newTracked[uint32]("backend", func(a, b model.BackendRow) bool { return a == b }),
		users:     make(map[uint32][]uint32),
	}
}

// adopt takes what the kernel holds.
func (s *services) adopt(held model.ServiceRows) (drift int) {
	drift += s.frontends.adopt(byKey(held.Frontends, func(f model.FrontendRow) model.FrontendKey { return f.FrontendKey }))
	drift += s.backends.adopt(byKey(held.Backends, func(b model.BackendRow) uint32 { return b.ID }))
	drift += s.slots.adopt(held.Slots)
	s.users = make(map[uint32][]uint32, len(held.Backends))
	for service, table := range held.Slots {
		s.noteUses(service, table)
	}
	return drift
}

// change takes up what is wanted now; the next pass brings it about.
func (s *services) change(ch model.ServiceChanges) {
	for _, k := range ch.GoneFrontends {
		s.frontends.drop(k)
	}
	for _, k := range ch.GoneSlots {
		s.slots.drop(k)
	}
	for _, k := range ch.GoneBackends {
		s.backends.drop(k)
	}
	for _, f := range ch.Frontends {
		s.frontends.set(f.FrontendKey, f)
	}
	for _, t := range ch.Slots {
		s.slots.set(t.Service, t.Backends)
	}
	for _, b := range ch.Backends {
		s.backends.set(b.ID, b)
	}
}

func (s *services) pass(now time.Time) (errs []error) {
	errs = append(errs, s.applyBackends(false, now)...)
	errs = append(errs, s.applySlots(now)...)
	errs = append(errs, s.applyFrontends(now)...)
	errs = append(errs, removeBatch(s.frontends.rows, s.frontends.surplus(now), s.dp.DeleteFrontends, now)...)
	errs = append(errs, s.trimSlots(now)...)
	errs = append(errs, s.applyBackends(true, now)...)
	errs = append(errs, s.removeBackends(now)...)
	s.backends.settle()
	s.slots.settle()
	s.frontends.settle()
	return errs
}

// applyBackends writes backends. One that is to get less than before is falling:
// the slots name it still, and calls that met only such ones would be refused, so
// it is written after them.
func (s *services) applyBackends(falling bool, now time.Time) []error {
	todo := s.backends.missing(now)
	if !falling {
		todo = slices.DeleteFunc(todo, func(id uint32) bool {
			have, ok := s.backends.applied[id]
			return ok && s.backends.want[id].State > have.State
		})
	}
	return applyBatch(s.backends, todo, s.dp.ApplyBackends, now)
}

// applySlots writes the tables whose backends are all there. A table that shrinks
// keeps its old end until no front end counts on it.
func (s *services) applySlots(now time.Time) (errs []error) {
	for _, service := range s.slots.missing(now) {
		table, have := s.slots.want[service], s.slots.applied[service]
		_, failing := s.slots.failing[service]
		same := s.certain(service) >= len(table) && slices.Equal(have[:len(table)], table)
		if same && !failing || !s.backendsHeld(table) {
			continue // only its end is to go; or a backend has failed, and is tried again
		}
		s.noteUses(service, table)
		before := s.slots.possible(service)
		err := s.dp.ApplySlots(model.SlotTable{Service: service, Backends: table})
		if err := s.slots.done(service, withEnd(table, have), err, now); err != nil {
			errs = append(errs, err)
			if len(before) == 0 { // there may be no slots, still
				s.slots.unsure[service] = append(s.slots.unsure[service], nil)
			}
			continue
		}
		s.doubtEnd(service, table, before)
	}
	return errs
}

// withEnd is what a table becomes by writing another one over its beginning.
func withEnd(table, old []uint32) []uint32 {
	out := slices.Clone(table)
	if len(old) > len(table) {
		out = append(out, old[len(table):]...)
	}
	return out
}

// doubtEnd keeps in mind what may follow a table that was written: the old end
// stays until it is trimmed, and may be that of any table that was tried.
func (s *services) doubtEnd(service uint32, table []uint32, before [][]uint32) {
	have := s.slots.applied[service]
	for _, old := range before {
		if end := withEnd(table, old); !slices.Equal(end, have) {
			s.slots.unsure[service] = append(s.slots.unsure[service], end)
		}
	}
}

// certain is how many slots of a service are known to hold what is applied: those
// in which all tables agree that the kernel may hold, whole or mixed.
func (s *services) certain(service uint32) int {
	have := s.slots.applied[service]
	n := len(have)
	for _, table := range s.slots.unsure[service] {
		n = min(n, len(table))
		for i := range n {
			if table[i] != have[i] {
				n = i
				break
			}
		}
	}
	return n
}

func (s *services) backendsHeld(table []uint32) bool {
	for _, id := range table {
		_, failed := s.backends.failing[id]
		if _, ok := s.backends.applied[id]; !ok || failed {
			return false
		}
	}
	return true
}

// applyFrontends writes the front ends whose slots are all there.
func (s *services) applyFrontends(now time.Time) []error {
	todo := slices.DeleteFunc(s.frontends.missing(now), func(k model.FrontendKey) bool {
		want := s.frontends.want[k]
		_, failed := s.slots.failing[want.Service]
		return want.Slots > 0 && failed || s.certain(want.Service) < int(want.Slots)
	})
	return applyBatch(s.frontends, todo, s.dp.ApplyFrontends, now)
}

// trimSlots removes the ends of tables, and whole tables, that no front end in
// force reaches. What is to stay of a table must be certain: if it may be a
// mixture, it is first written again.
func (s *services) trimSlots(now time.Time) (errs []error) {
	longer := make(map[uint32]int) // services, and how many slots they need
	for service := range s.slots.open {
		if needed := len(s.slots.want[service]); needed < s.slotsOf(service) {
			longer[service] = needed
		}
	}
	s.reach(longer)
	for service, keep := range longer {
		have, length := s.slots.applied[service], s.slotsOf(service)
		f := s.slots.failing[service]
		if keep >= length || keep > s.certain(service) || now.Before(f.next) {
			continue
		}
		err := s.dp.TrimSlots(service, uint32(keep), uint32(length))
		if err == nil && keep == 0 {
			err = s.slots.removed(service, err, now)
		} else {
			err = s.slots.done(service, slices.Clone(have[:keep]), err, now)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// reach raises the needed slots of services to what front ends in force count on.
func (s *services) reach(needed map[uint32]int) {
	if len(needed) == 0 {
		return
	}
	raise := func(f model.FrontendRow) {
		if n, ok := needed[f.Service]; ok {
			needed[f.Service] = max(n, int(f.Slots))
		}
	}
	for _, f := range s.frontends.applied {
		raise(f)
	}
	for _, tried := range s.frontends.unsure {
		for _, f := range tried {
			raise(f)
		}
	}
}

// slotsOf is how many slots a service may have in the kernel.
func (s *services) slotsOf(service uint32) (length int) {
	for _, table := range s.slots.possible(service) {
		length = max(length, len(table))
	}
	return length
}

// removeBackends removes those that no slot can name any more.
func (s *services) removeBackends(now time.Time) []error {
	todo := slices.DeleteFunc(s.backends.surplus(now), s.used)
	errs := removeBatch(s.backends.rows, todo, s.dp.DeleteBackends, now)
	for _, id := range todo {
		if _, held := s.backends.applied[id]; !held {
			delete(s.users, id)
		}
	}
	return errs
}

// noteUses keeps in mind that a service's slots may name backends.
func (s *services) noteUses(service uint32, table []uint32) {
	for i, id := range table {
		if i > 0 && id == table[i-1] || slices.Contains(s.users[id], service) {
			continue
		}
		s.users[id] = append(s.users[id], service)
	}
}

// used tells whether a slot may name the backend, and forgets services that do not.
func (s *services) used(id uint32) bool {
	s.users[id] = slices.DeleteFunc(s.users[id], func(service uint32) bool {
		return !slices.ContainsFunc(s.slots.possible(service), func(table []uint32) bool { return slices.Contains(table, id) })
	})
	return len(s.users[id]) > 0
}

// applyBatch writes rows in one batch and, if that fails, each alone to find the
// culprit.
func applyBatch[K comparable, V any](
	r *tracked[K, V], todo []K, apply func([]V) error, now time.Time,
) (errs []error) {
	if len(todo) == 0 {
		return nil
	}
	batch := make([]V, len(todo))
	for i, k := range todo {
		batch[i] = r.want[k]
	}
	whole := apply(batch)
	for i, k := range todo {
		err := whole
		if err != nil && len(todo) > 1 {
			err = apply(batch[i : i+1])
		}
		if err := r.done(k, batch[i], err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// removeBatch is applyBatch for rows that are to go.
func removeBatch[K comparable, V any](r *rows[K, V], todo []K, remove func([]K) error, now time.Time) (errs []error) {
	if len(todo) == 0 {
		return nil
	}
	whole := remove(todo)
	for i, k := range todo {
		err := whole
		if err != nil && len(todo) > 1 {
			err = remove(todo[i : i+1])
		}
		if err := r.removed(k, err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
