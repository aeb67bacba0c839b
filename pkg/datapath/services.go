// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// The kernel finds a backend by way of front end, slot and backend. What a row
// leads to is there before the row is, and goes after it; the caller keeps that
// order: backends, slots, front ends, and backwards to remove.

// ApplyBackends writes backends, in one batch.
func (d *Datapath) ApplyBackends(rows []model.BackendRow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, values := make([]uint32, len(rows)), make([]weftbpf.BpfWeftBackendRow, len(rows))
	for i, row := range rows {
		keys[i], values[i] = row.ID, encodeBackend(row)
	}
	if err := putAll(d.maps.WeftBackend, keys, values); err != nil {
		return fmt.Errorf("writing backends: %w", err)
	}
	return nil
}

// DeleteBackends removes backends; those that are not there are no error. Sockets
// that were sent to them are another's task (see BackendsRemoved).
func (d *Datapath) DeleteBackends(ids []uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if err := ignoreMissing(d.maps.WeftBackend.Delete(id)); err != nil {
			return fmt.Errorf("removing backend %d: %w", id, err)
		}
	}
	d.noteRemoved()
	return nil
}

// ApplySlots writes the first slots of a service's table, in one batch. Longer
// tables keep their end until TrimSlots.
func (d *Datapath) ApplySlots(table model.SlotTable) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := make([]weftbpf.BpfWeftSlotKey, len(table.Backends))
	for i := range keys {
		keys[i] = weftbpf.BpfWeftSlotKey{Service: table.Service, Index: uint32(i)}
	}
	if err := putAll(d.maps.WeftSvcSlot, keys, table.Backends); err != nil {
		return fmt.Errorf("writing the %d slots of service %d: %w", len(keys), table.Service, err)
	}
	return nil
}

// TrimSlots removes the slots from index from up to, but not with, index to.
func (d *Datapath) TrimSlots(service, from, to uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := make([]weftbpf.BpfWeftSlotKey, 0, to-min(from, to))
	for i := from; i < to; i++ {
		keys = append(keys, weftbpf.BpfWeftSlotKey{Service: service, Index: i})
	}
	for _, key := range keys {
		if err := ignoreMissing(d.maps.WeftSvcSlot.Delete(key)); err != nil {
			return fmt.Errorf("removing slot %d of service %d: %w", key.Index, service, err)
		}
	}
	return nil
}

// ApplyFrontends writes front ends, those of a family in one batch.
func (d *Datapath) ApplyFrontends(rows []model.FrontendRow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var keys4 []weftbpf.BpfWeftSvc4Key
	var keys6 []weftbpf.BpfWeftSvc6Key
	var values4, values6 []weftbpf.BpfWeftSvc
	for _, row := range rows {
		value := encodeFrontend(row)
		if row.Addr.Is4() {
			keys4, values4 = append(keys4, svc4Key(row.FrontendKey)), append(values4, value)
		} else {
			keys6, values6 = append(keys6, svc6Key(row.FrontendKey)), append(values6, value)
		}
	}
	if err := putAll(d.maps.WeftSvc4, keys4, values4); err != nil {
		return fmt.Errorf("writing front ends: %w", err)
	}
	if err := putAll(d.maps.WeftSvc6, keys6, values6); err != nil {
		return fmt.Errorf("writing front ends: %w", err)
	}
	for _, row := range rows {
		d.notePort(row.FrontendKey, row.HostPort)
	}
	return d.countPorts()
}

// DeleteFrontends removes front ends; those that are not there are no error.
func (d *Datapath) DeleteFrontends(keys []model.FrontendKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range keys {
		var err error
		if key.Addr.Is4() {
			err = d.maps.WeftSvc4.Delete(svc4Key(key))
		} else {
			err = d.maps.WeftSvc6.Delete(svc6Key(key))
		}
		if err := ignoreMissing(err); err != nil {
			return fmt.Errorf("removing front end %s: %w", key, err)
		}
		d.notePort(key, false)
	}
	return d.countPorts()
}

// Services reads back what the kernel knows of services.
func (d *Datapath) Services() (model.ServiceRows, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, err := d.readServices()
	if err != nil {
		return rows, err
	}
	clear(d.ports)
	for _, f := range rows.Frontends {
		d.notePort(f.FrontendKey, f.HostPort)
	}
	return rows, d.countPorts()
}

// readServices changes nothing.
func (d *Datapath) readServices() (model.ServiceRows, error) {
	rows := model.ServiceRows{Slots: make(map[uint32][]uint32)}
	err := dump(d.maps.WeftSvc4, func(key weftbpf.BpfWeftSvc4Key, value weftbpf.BpfWeftSvc) error {
		rows.Frontends = append(rows.Frontends, decodeFrontend(addr4(key.Addr), key.Port, key.Proto, value))
		return nil
	})
	if err != nil {
		return rows, err
	}
	err = dump(d.maps.WeftSvc6, func(key weftbpf.BpfWeftSvc6Key, value weftbpf.BpfWeftSvc) error {
		rows.Frontends = append(rows.Frontends, decodeFrontend(netip.AddrFrom16(key.Addr), key.Port, key.Proto, value))
		return nil
	})
	if err != nil {
		return rows, err
	}
	err = dump(d.maps.WeftBackend, func(id uint32, value weftbpf.BpfWeftBackendRow) error {
		rows.Backends = append(rows.Backends, decodeBackend(id, value))
		return nil
	})
	if err != nil {
		return rows, err
	}
	err = dump(d.maps.WeftSvcSlot, func(key weftbpf.BpfWeftSlotKey, backend uint32) error {
		table := rows.Slots[key.Service]
		if grow := int(key.Index) + 1 - len(table); grow > 0 {
			table = append(table, make([]uint32, grow)...)
		}
		table[key.Index] = backend
		rows.Slots[key.Service] = table
		return nil
	})
	slices.SortFunc(rows.Frontends, func(a, b model.FrontendRow) int { return a.Compare(b.FrontendKey) })
	slices.SortFunc(rows.Backends, func(a, b model.BackendRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows, err
}

// Hits counts how often each service chose each of its backends.
func (d *Datapath) Hits() (map[model.Hit]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hits := make(map[model.Hit]uint64)
	var key weftbpf.BpfWeftHitKey
	var cpus []uint64
	entries := d.maps.WeftSvcHits.Iterate()
	for entries.Next(&key, &cpus) {
		sum := uint64(0)
		for _, n := range cpus {
			sum += n
		}
		hits[model.Hit{Service: key.Service, Backend: key.Backend}] = sum
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading how often backends were chosen: %w", err)
	}
	return hits, nil
}

// PairsPushedOut counts pairs of front end and backend that found no place in
// their socket's own storage.
func (d *Datapath) PairsPushedOut() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sumOf(d.maps.WeftSockOver, 0, "pairs that found no place in their socket")
}

// sumOf adds up one element of a per-CPU array.
func sumOf(m *ebpf.Map, index uint32, what string) (uint64, error) {
	var cpus []uint64
	if err := m.Lookup(index, &cpus); err != nil {
		return 0, fmt.Errorf("reading the counter of %s: %w", what, err)
	}
	var sum uint64
	for _, n := range cpus {
		sum += n
	}
	return sum, nil
}

func svc4Key(k model.FrontendKey) weftbpf.BpfWeftSvc4Key {
	return weftbpf.BpfWeftSvc4Key{Addr: wire32(k.Addr), Port: wire16(k.Port), Proto: k.Protocol}
}

func svc6Key(k model.FrontendKey) weftbpf.BpfWeftSvc6Key {
	return weftbpf.BpfWeftSvc6Key{Addr: k.Addr.As16(), Port: wire16(k.Port), Proto: k.Protocol}
}

func encodeFrontend(row model.FrontendRow) weftbpf.BpfWeftSvc {
	value := weftbpf.BpfWeftSvc{Service: row.Service, Count: row.Slots, Affinity: uint32(row.Affinity / time.Second)}
	if row.Maglev {
		value.Algorithm = uint8(weftbpf.BpfWeftAlgorithmWEFT_MAGLEV)
	}
	if row.HostPort {
		value.Flags |= uint8(weftbpf.BpfWeftSvcFlagWEFT_SVC_PORT)
	}
	if row.HostOnly {
		value.Flags |= uint8(weftbpf.BpfWeftSvcFlagWEFT_SVC_OWN)
	}
	return value
}

func decodeFrontend(addr netip.Addr, port uint16, proto uint8, value weftbpf.BpfWeftSvc) model.FrontendRow {
	return model.FrontendRow{
		FrontendKey: model.FrontendKey{Addr: addr, Port: wire16(port), Protocol: proto},
		Service:     value.Service, Slots: value.Count, Affinity: time.Duration(value.Affinity) * time.Second,
		Maglev:   value.Algorithm == uint8(weftbpf.BpfWeftAlgorithmWEFT_MAGLEV),
		HostPort: value.Flags&uint8(weftbpf.BpfWeftSvcFlagWEFT_SVC_PORT) != 0,
		HostOnly: value.Flags&uint8(weftbpf.BpfWeftSvcFlagWEFT_SVC_OWN) != 0,
	}
}

func encodeBackend(row model.BackendRow) weftbpf.BpfWeftBackendRow {
	value := weftbpf.BpfWeftBackendRow{Port: wire16(row.Port), Proto: row.Protocol, Family: 6,
		State: uint8(row.State) + uint8(weftbpf.BpfWeftBackendStateWEFT_BACKEND_ACTIVE)}
	if row.Addr.Is4() {
		value.Family = 4
	}
	copy(value.Addr[:], row.Addr.AsSlice())
	return value
}

func decodeBackend(id uint32, value weftbpf.BpfWeftBackendRow) model.BackendRow {
	addr := netip.AddrFrom16(value.Addr)
	if value.Family == 4 {
		addr = netip.AddrFrom4([4]byte(value.Addr[:4]))
	}
	return model.BackendRow{ID: id, Addr: addr, Port: wire16(value.Port), Protocol: value.Proto,
		State: model.BackendState(value.State - uint8(weftbpf.BpfWeftBackendStateWEFT_BACKEND_ACTIVE))}
}
