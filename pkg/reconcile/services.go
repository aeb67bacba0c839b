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
	// doubted are the backends that slots may name whose last write failed: it
	// may have been done, in part or in full.
	doubted map[uint32][]uint32
}

func newServices(dp ServiceTarget) *services {
	return &services{
		dp: dp, doubted: make(map[uint32][]uint32),
		frontends: newRows[model.FrontendKey]("front end", func(a, b model.FrontendRow) bool { return a == b }),
		slots:     newRows[uint32]("slots of service", slices.Equal[[]uint32]),
		backends:  newRows[uint32]("backend", func(a, b model.BackendRow) bool { return a == b }),
	}
}

// adopt takes what the kernel holds.
func (s *services) adopt(held model.ServiceRows) (drift int) {
	drift += s.frontends.adopt(byKey(held.Frontends, func(f model.FrontendRow) model.FrontendKey { return f.FrontendKey }))
	drift += s.backends.adopt(byKey(held.Backends, func(b model.BackendRow) uint32 { return b.ID }))
	clear(s.doubted)
	return drift + s.slots.adopt(held.Slots)
}

func (s *services) pass(want Wanted, now time.Time) (errs []error) {
	errs = append(errs, s.applyBackends(want.Backends, now)...)
	errs = append(errs, s.applySlots(want.Slots, now)...)
	errs = append(errs, s.applyFrontends(want.Frontends, now)...)
	errs = append(errs, removeBatch(s.frontends, s.frontends.surplus(want.Frontends, now), s.dp.DeleteFrontends, doubtFrontend, now)...)
	errs = append(errs, s.trimSlots(want.Slots, now)...)
	errs = append(errs, s.removeBackends(want.Backends, now)...)
	s.backends.forget(want.Backends)
	s.slots.forget(want.Slots)
	s.frontends.forget(want.Frontends)
	return errs
}

func (s *services) applyBackends(want map[uint32]model.BackendRow, now time.Time) []error {
	return applyBatch(s.backends, want, s.backends.missing(want, now), s.dp.ApplyBackends, doubtBackend, now)
}

// applySlots writes the tables whose backends are all there. A table that shrinks
// keeps its old end until no front end counts on it.
func (s *services) applySlots(want map[uint32][]uint32, now time.Time) (errs []error) {
	for _, service := range s.slots.missing(want, now) {
		table, have := want[service], s.slots.applied[service]
		if len(have) >= len(table) && slices.Equal(have[:len(table)], table) || !s.backendsHeld(table) {
			continue // only its end is to go; or a backend has failed, and is tried again
		}
		err := s.dp.ApplySlots(model.SlotTable{Service: service, Backends: table})
		held := slices.Clone(table)
		if len(have) > len(table) {
			held = append(held, have[len(table):]...)
		}
		if err != nil {
			s.doubt(service, have, table)
		} else {
			s.trust(service, held)
		}
		if err := s.slots.done(service, held, err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// doubt notes that a service's slots hold any mixture of two tables. A table of
// zeros, which are nobody's number, equals no table that could be wanted.
func (s *services) doubt(service uint32, have, tried []uint32) {
	s.doubted[service] = append(append(s.doubted[service], have...), tried...)
	s.slots.applied[service] = make([]uint32, max(len(have), len(tried)))
}

// trust ends the doubt about a service whose slots are known again. An old end
// that a failed write left unknown stays in doubt until it is trimmed.
func (s *services) trust(service uint32, held []uint32) {
	if !slices.Contains(held, 0) {
		delete(s.doubted, service)
	}
}

// doubtFrontend stands for a row after a write that failed. It differs from all
// rows, and counts on as many slots as either state does.
func doubtFrontend(old, tried model.FrontendRow) model.FrontendRow {
	old.Slots, old.Affinity = max(old.Slots, tried.Slots), -1
	if tried.FrontendKey.Addr.IsValid() {
		old.FrontendKey, old.Service = tried.FrontendKey, tried.Service
	}
	return old
}

func doubtBackend(model.BackendRow, model.BackendRow) model.BackendRow { return model.BackendRow{} }

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
		return want[k].Slots > 0 && failed || len(s.slots.applied[want[k].Service]) < int(want[k].Slots)
	})
	return applyBatch(s.frontends, want, todo, s.dp.ApplyFrontends, doubtFrontend, now)
}

// trimSlots removes the ends of tables, and whole tables, that no front end in
// force reaches. Of a table in doubt that is wanted nothing is trimmed before it
// was written: what would be left is not known.
func (s *services) trimSlots(want map[uint32][]uint32, now time.Time) (errs []error) {
	reach := make(map[uint32]int)
	for _, f := range s.frontends.applied {
		reach[f.Service] = max(reach[f.Service], int(f.Slots))
	}
	for service, have := range s.slots.applied {
		keep := max(len(want[service]), reach[service])
		if f := s.slots.failing[service]; keep >= len(have) || now.Before(f.next) || slices.Contains(have[:keep], 0) {
			continue
		}
		err := s.dp.TrimSlots(service, uint32(keep), uint32(len(have)))
		if err != nil {
			s.doubt(service, have, nil)
		} else {
			s.trust(service, have[:keep])
		}
		if keep == 0 {
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

// removeBackends removes those that no slot names any more.
func (s *services) removeBackends(want map[uint32]model.BackendRow, now time.Time) []error {
	named := make(map[uint32]bool)
	for _, table := range s.slots.applied {
		for _, id := range table {
			named[id] = true
		}
	}
	for _, ids := range s.doubted {
		for _, id := range ids {
			named[id] = true
		}
	}
	todo := slices.DeleteFunc(s.backends.surplus(want, now), func(id uint32) bool { return named[id] })
	return removeBatch(s.backends, todo, s.dp.DeleteBackends, doubtBackend, now)
}

// applyBatch writes rows in one batch and, if that fails, each alone to find the
// culprit. After a failure the kernel may hold either row; doubt makes one that
// is unlike both, so that the wanted one is written again whatever it is.
func applyBatch[K comparable, V any](
	r *rows[K, V], want map[K]V, todo []K, apply func([]V) error, doubt func(old, tried V) V, now time.Time,
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
			r.applied[k] = doubt(r.applied[k], batch[i])
			errs = append(errs, err)
		}
	}
	return errs
}

// removeBatch is applyBatch for rows that are to go.
func removeBatch[K comparable, V any](
	r *rows[K, V], todo []K, remove func([]K) error, doubt func(old, tried V) V, now time.Time,
) (errs []error) {
	var none V
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
			r.applied[k] = doubt(r.applied[k], none)
			errs = append(errs, err)
		}
	}
	return errs
}
