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
	frontends *rows[model.FrontendKey, model.FrontendRow]
	slots     *rows[uint32, []uint32]
	backends  *rows[uint32, model.BackendRow]
}

func newServices(dp ServiceTarget) *services {
	return &services{
		dp:        dp,
		frontends: newRows[model.FrontendKey]("front end", func(a, b model.FrontendRow) bool { return a == b }),
		slots:     newRows[uint32]("slots of service", slices.Equal[[]uint32]),
		backends:  newRows[uint32]("backend", func(a, b model.BackendRow) bool { return a == b }),
	}
}

// adopt takes what the kernel holds.
func (s *services) adopt(held model.ServiceRows) (drift int) {
	drift += s.frontends.adopt(byKey(held.Frontends, func(f model.FrontendRow) model.FrontendKey { return f.FrontendKey }))
	drift += s.backends.adopt(byKey(held.Backends, func(b model.BackendRow) uint32 { return b.ID }))
	return drift + s.slots.adopt(held.Slots)
}

func (s *services) pass(want Wanted, now time.Time) (errs []error) {
	errs = append(errs, s.applyBackends(want.Backends, false, now)...)
	errs = append(errs, s.applySlots(want.Slots, now)...)
	errs = append(errs, s.applyFrontends(want.Frontends, now)...)
	errs = append(errs, removeBatch(s.frontends, s.frontends.surplus(want.Frontends, now), s.dp.DeleteFrontends, now)...)
	errs = append(errs, s.trimSlots(want.Slots, now)...)
	errs = append(errs, s.applyBackends(want.Backends, true, now)...)
	errs = append(errs, s.removeBackends(want.Backends, now)...)
	s.backends.forget(want.Backends)
	s.slots.forget(want.Slots)
	s.frontends.forget(want.Frontends)
	return errs
}

// applyBackends writes backends. One that is to get less than before is falling:
// the slots name it still, and calls that met only such ones would be refused, so
// it is written after them.
func (s *services) applyBackends(want map[uint32]model.BackendRow, falling bool, now time.Time) []error {
	todo := s.backends.missing(want, now)
	if !falling {
		todo = slices.DeleteFunc(todo, func(id uint32) bool {
			have, ok := s.backends.applied[id]
			return ok && want[id].State > have.State
		})
	}
	return applyBatch(s.backends, want, todo, s.dp.ApplyBackends, now)
}

// applySlots writes the tables whose backends are all there. A table that shrinks
// keeps its old end until no front end counts on it.
func (s *services) applySlots(want map[uint32][]uint32, now time.Time) (errs []error) {
	for _, service := range s.slots.missing(want, now) {
		table, have := want[service], s.slots.applied[service]
		_, failing := s.slots.failing[service]
		same := s.certain(service) >= len(table) && slices.Equal(have[:len(table)], table)
		if same && !failing || !s.backendsHeld(table) {
			continue // only its end is to go; or a backend has failed, and is tried again
		}
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
func (s *services) applyFrontends(want map[model.FrontendKey]model.FrontendRow, now time.Time) []error {
	todo := slices.DeleteFunc(s.frontends.missing(want, now), func(k model.FrontendKey) bool {
		_, failed := s.slots.failing[want[k].Service]
		return want[k].Slots > 0 && failed || s.certain(want[k].Service) < int(want[k].Slots)
	})
	return applyBatch(s.frontends, want, todo, s.dp.ApplyFrontends, now)
}

// trimSlots removes the ends of tables, and whole tables, that no front end in
// force reaches. What is to stay of a table must be certain: if it may be a
// mixture, it is first written again.
func (s *services) trimSlots(want map[uint32][]uint32, now time.Time) (errs []error) {
	reach := make(map[uint32]int)
	for key := range s.frontends.applied {
		for _, f := range s.frontends.possible(key) {
			reach[f.Service] = max(reach[f.Service], int(f.Slots))
		}
	}
	for service, have := range s.slots.applied {
		keep, length := max(len(want[service]), reach[service]), s.slotsOf(service)
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

// slotsOf is how many slots a service may have in the kernel.
func (s *services) slotsOf(service uint32) (length int) {
	for _, table := range s.slots.possible(service) {
		length = max(length, len(table))
	}
	return length
}

// removeBackends removes those that no slot can name any more.
func (s *services) removeBackends(want map[uint32]model.BackendRow, now time.Time) []error {
	named := make(map[uint32]bool)
	for service := range s.slots.applied {
		for _, table := range s.slots.possible(service) {
			for _, id := range table {
				named[id] = true
			}
		}
	}
	todo := slices.DeleteFunc(s.backends.surplus(want, now), func(id uint32) bool { return named[id] })
	return removeBatch(s.backends, todo, s.dp.DeleteBackends, now)
}

// applyBatch writes rows in one batch and, if that fails, each alone to find the
// culprit.
func applyBatch[K comparable, V any](
	r *rows[K, V], want map[K]V, todo []K, apply func([]V) error, now time.Time,
) (errs []error) {
	if len(todo) == 0 {
		return nil
	}
	batch := make([]V, len(todo))
	for i, k := range todo {
		batch[i] = want[k]
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
