// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// rows are what the kernel is to know of one service.
type rows struct {
	frontends []model.FrontendRow
	slots     []model.SlotTable
	backends  []model.BackendRow
}

// rowsOf makes the rows of a service; of none, none. A front end that is another service's has
// none; one that nobody serves has a row without slots, so that callers are refused
// at once.
func rowsOf(s *Service) (out rows) {
	if s == nil {
		return rows{}
	}
	tables, targets := make(map[uint32]bool), make(map[uint32]int)
	for i := range s.Frontends {
		f := &s.Frontends[i]
		if f.taken || !balanced(f.Protocol) {
			continue
		}
		slots := f.slots()
		out.frontends = append(out.frontends, model.FrontendRow{
			FrontendKey: f.FrontendKey, Service: f.Number, Slots: uint32(len(slots)),
			Affinity: s.Affinity, Maglev: f.Algorithm == Table,
		})
		if len(slots) > 0 && !tables[f.Number] {
			tables[f.Number] = true
			out.slots = append(out.slots, model.SlotTable{Service: f.Number, Backends: slots})
		}
		out.addTargets(targets, f)
	}
	return out
}

func balanced(protocol uint8) bool { return protocol == model.ProtoTCP || protocol == model.ProtoUDP }

// addTargets adds every backend that a slice names, ready or not: only the
// sockets of those that none names any more are ended. One that several ports of a
// service share is what the best of them says.
func (r *rows) addTargets(at map[uint32]int, f *Frontend) {
	for _, b := range f.Backends {
		row := model.BackendRow{ID: b.ID, Addr: b.Addr.Addr(), Port: b.Addr.Port(), Protocol: f.Protocol,
			State: rowState(b.State)}
		i, ok := at[b.ID]
		switch {
		case !ok:
			at[b.ID] = len(r.backends)
			r.backends = append(r.backends, row)
		case row.State < r.backends[i].State:
			r.backends[i] = row
		}
	}
}

func rowState(s State) model.BackendState {
	switch s {
	case Ready:
		return model.BackendActive
	case Terminating:
		return model.BackendDraining
	}
	return model.BackendUnready
}

// slots are the numbers of the backends to choose from, in the order of their
// addresses or as a Maglev table.
func (f *Frontend) slots() []uint32 {
	var active []uint32
	var names []string
	for _, b := range f.Backends {
		if b.State == Ready {
			active, names = append(active, b.ID), append(names, b.Addr.String())
		}
	}
	if f.Algorithm != Table {
		return active
	}
	table := Maglev(names, tableSize(len(names)))
	out := make([]uint32, len(table))
	for i, n := range table {
		out[i] = active[n]
	}
	return out
}

// rowSet is the rows of several services by their keys.
type rowSet struct {
	frontends map[model.FrontendKey]model.FrontendRow
	slots     map[uint32]model.SlotTable
	backends  map[uint32]model.BackendRow
}

func newRowSet() rowSet {
	return rowSet{frontends: make(map[model.FrontendKey]model.FrontendRow),
		slots: make(map[uint32]model.SlotTable), backends: make(map[uint32]model.BackendRow)}
}

func (s rowSet) add(r rows) {
	for _, f := range r.frontends {
		s.frontends[f.FrontendKey] = f
	}
	for _, t := range r.slots {
		s.slots[t.Service] = t
	}
	for _, b := range r.backends {
		s.backends[b.ID] = b
	}
}

// changesTo is what leads from these rows to others, sorted by keys.
func (s rowSet) changesTo(now rowSet) (out model.ServiceChanges) {
	out.Frontends, out.GoneFrontends = differ(s.frontends, now.frontends, model.FrontendKey.Compare,
		func(a, b model.FrontendRow) bool { return a == b })
	out.Slots, out.GoneSlots = differ(s.slots, now.slots, cmp.Compare[uint32],
		func(a, b model.SlotTable) bool { return slices.Equal(a.Backends, b.Backends) })
	out.Backends, out.GoneBackends = differ(s.backends, now.backends, cmp.Compare[uint32],
		func(a, b model.BackendRow) bool { return a == b })
	return out
}

func differ[K comparable, V any](was, now map[K]V, order func(a, b K) int, equal func(a, b V) bool) (put []V, gone []K) {
	for _, k := range slices.SortedFunc(maps.Keys(now), order) {
		if old, ok := was[k]; !ok || !equal(old, now[k]) {
			put = append(put, now[k])
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(was), order) {
		if _, ok := now[k]; !ok {
			gone = append(gone, k)
		}
	}
	return put, gone
}
