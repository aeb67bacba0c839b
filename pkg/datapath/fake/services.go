// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// serviceRows is the kernel's service tables. Unlike the kernel, it refuses a
// row that leads to nothing, so that tests see a wrong order.
type serviceRows struct {
	frontends map[model.FrontendKey]model.FrontendRow
	slots     map[uint32][]uint32
	backends  map[uint32]model.BackendRow
}

func newServiceRows() serviceRows {
	return serviceRows{frontends: make(map[model.FrontendKey]model.FrontendRow),
		slots: make(map[uint32][]uint32), backends: make(map[uint32]model.BackendRow)}
}

// ApplyBackends keeps the rows.
func (d *Datapath) ApplyBackends(rows []model.BackendRow) error {
	return d.write(func() error {
		for _, r := range rows {
			d.services.backends[r.ID] = r
			d.writes++
		}
		return nil
	})
}

// DeleteBackends forgets backends that no slot names.
func (d *Datapath) DeleteBackends(ids []uint32) error {
	return d.write(func() error {
		for service, table := range d.services.slots {
			for _, id := range ids {
				if slices.Contains(table, id) {
					return fmt.Errorf("backend %d is named by a slot of service %d", id, service)
				}
			}
		}
		for _, id := range ids {
			delete(d.services.backends, id)
		}
		return nil
	})
}

// ApplySlots writes the first slots of a table; their backends must be there.
func (d *Datapath) ApplySlots(table model.SlotTable) error {
	return d.write(func() error {
		for _, id := range table.Backends {
			if _, ok := d.services.backends[id]; !ok {
				return fmt.Errorf("service %d names backend %d, which is not there", table.Service, id)
			}
		}
		next := slices.Clone(table.Backends)
		if have := d.services.slots[table.Service]; len(have) > len(next) {
			next = append(next, have[len(next):]...)
		}
		d.services.slots[table.Service] = next
		d.writes++
		return nil
	})
}

// TrimSlots removes slots that no front end counts on.
func (d *Datapath) TrimSlots(service, from, to uint32) error {
	return d.write(func() error {
		for key, f := range d.services.frontends {
			if f.Service == service && f.Slots > from {
				return fmt.Errorf("front end %s counts on %d slots", key, f.Slots)
			}
		}
		have := d.services.slots[service]
		if int(to) >= len(have) && int(from) < len(have) {
			have = have[:from]
		}
		d.services.slots[service] = have
		if len(have) == 0 {
			delete(d.services.slots, service)
		}
		return nil
	})
}

// ApplyFrontends keeps the rows; their slots must be there.
func (d *Datapath) ApplyFrontends(rows []model.FrontendRow) error {
	return d.write(func() error {
		for _, r := range rows {
			if have := len(d.services.slots[r.Service]); have < int(r.Slots) {
				return fmt.Errorf("front end %s counts on %d slots, there are %d", r.FrontendKey, r.Slots, have)
			}
			d.services.frontends[r.FrontendKey] = r
			d.writes++
		}
		return nil
	})
}

// DeleteFrontends forgets rows.
func (d *Datapath) DeleteFrontends(keys []model.FrontendKey) error {
	return d.write(func() error {
		for _, k := range keys {
			delete(d.services.frontends, k)
		}
		return nil
	})
}

// Services is all rows of services.
func (d *Datapath) Services() (model.ServiceRows, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return model.ServiceRows{
		Frontends: slices.SortedFunc(maps.Values(d.services.frontends), func(a, b model.FrontendRow) int {
			return a.Compare(b.FrontendKey)
		}),
		Slots: maps.Clone(d.services.slots),
		Backends: slices.SortedFunc(maps.Values(d.services.backends), func(a, b model.BackendRow) int {
			return cmp.Compare(a.ID, b.ID)
		}),
	}, nil
}
