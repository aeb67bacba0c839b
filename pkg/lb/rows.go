// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// number fills in the numbers of services and backends.
func (c *Compiler) number(services []Service) {
	var ports, targets []string
	each := func(do func(s Service, f *Frontend)) {
		for _, s := range services {
			for i := range s.Frontends {
				do(s, &s.Frontends[i])
			}
		}
	}
	each(func(s Service, f *Frontend) {
		ports = append(ports, portKey(s, *f))
		for _, b := range f.Backends {
			targets = append(targets, targetKey(s, *f, b))
		}
	})
	c.services.update(ports)
	c.backends.update(targets)
	each(func(s Service, f *Frontend) {
		f.Number = c.services.of(portKey(s, *f))
		for i, b := range f.Backends {
			f.Backends[i].ID = c.backends.of(targetKey(s, *f, b))
		}
	})
}

// portKey names a port of a service in one family: what shares a slot table.
func portKey(s Service, f Frontend) string {
	return fmt.Sprintf("%s/%d/%d/%t", s.ServiceKey, f.Protocol, f.Port, f.Addr.Is4())
}

// targetKey names a backend of a service: an address that passes to another pod is
// another one, and so is the same pod behind another service. Who was sent to it by
// a service that it has left must not find it alive by the other.
func targetKey(s Service, f Frontend, b Backend) string {
	return placeOf(f.Protocol, b.Addr) + " " + b.Pod.String() + " " + s.ServiceKey.String()
}

// placeOf is the part of a backend's name that the kernel holds.
func placeOf(protocol uint8, at netip.AddrPort) string { return fmt.Sprintf("%d/%s", protocol, at) }

// Adopt takes over the numbers that the kernel knows backends by, before the first
// compilation: what is in force keeps its number, also when an agent of another
// release gave it.
func (c *Compiler) Adopt(held []model.BackendRow) {
	c.backends.adopted = make(map[string][]uint32, len(held))
	for _, b := range held {
		place := placeOf(b.Protocol, netip.AddrPortFrom(b.Addr, b.Port))
		c.backends.adopted[place] = append(c.backends.adopted[place], b.ID)
	}
}

// addRows makes the rows of the kernel from the services. A front end that is
// another service's has none; one that nobody serves has a row without slots,
// so that callers are refused at once.
func (o *Output) addRows() {
	tables := make(map[uint32]model.SlotTable)
	targets := make(map[uint32]model.BackendRow)
	rows := make(map[model.FrontendKey]model.FrontendRow)
	for _, s := range o.Services {
		for _, f := range s.Frontends {
			if _, taken := rows[f.FrontendKey]; taken || !balanced(f.Protocol) {
				continue
			}
			slots := f.slots()
			rows[f.FrontendKey] = model.FrontendRow{
				FrontendKey: f.FrontendKey, Service: f.Number, Slots: uint32(len(slots)),
				Affinity: s.Affinity, Maglev: f.Algorithm == Table,
			}
			if len(slots) > 0 {
				tables[f.Number] = model.SlotTable{Service: f.Number, Backends: slots}
			}
			addTargets(targets, f)
		}
	}
	o.Frontends = slices.SortedFunc(maps.Values(rows), func(a, b model.FrontendRow) int { return a.Compare(b.FrontendKey) })
	o.Slots = slices.SortedFunc(maps.Values(tables), func(a, b model.SlotTable) int { return cmp.Compare(a.Service, b.Service) })
	o.Backends = slices.SortedFunc(maps.Values(targets), func(a, b model.BackendRow) int { return cmp.Compare(a.ID, b.ID) })
}

func balanced(protocol uint8) bool { return protocol == model.ProtoTCP || protocol == model.ProtoUDP }

// addTargets adds every backend that a slice names, ready or not: only the
// sockets of those that none names any more are ended. One that several ports of a
// service share is what the best of them says.
func addTargets(targets map[uint32]model.BackendRow, f Frontend) {
	for _, b := range f.Backends {
		row := model.BackendRow{ID: b.ID, Addr: b.Addr.Addr(), Port: b.Addr.Port(), Protocol: f.Protocol,
			State: rowState(b.State)}
		if old, ok := targets[b.ID]; !ok || row.State < old.State {
			targets[b.ID] = row
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
func (f Frontend) slots() []uint32 {
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
