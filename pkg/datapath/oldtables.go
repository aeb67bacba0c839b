// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// oldTables are the tables of conntrack that are being carried over, as our
// programs can read them too.
type oldTables struct {
	from map[string]*ebpf.Map // by the name of our table
	at   []byte               // of each byte of an entry: its place in the old ones
}

// oldTables gives nil where conntrack does not move.
func (a *adoption) oldTables() (*oldTables, error) {
	t := &oldTables{from: make(map[string]*ebpf.Map)}
	for _, m := range a.moves {
		if m.pin.old == "" {
			continue
		}
		keys, values, err := entryConverters(m.from, m.spec)
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", m.pin.name, err)
		}
		if !keys.same(m.from.KeySize(), m.spec.KeySize) {
			return nil, fmt.Errorf("map %s has other keys", m.pin.name)
		}
		at, err := values.places(unsafe.Sizeof(weftbpf.BpfWeftCt{}))
		if err != nil {
			return nil, fmt.Errorf("map %s: %w", m.pin.name, err)
		}
		if t.at != nil && !slices.Equal(t.at, at) {
			return nil, fmt.Errorf("map %s has other entries than the rest", m.pin.name)
		}
		t.at = at
		t.from[m.pin.name] = m.from // of several the newest version, which comes last
	}
	if len(t.from) == 0 {
		return nil, nil
	}
	return t, nil
}

// same tells whether both layouts are one, but for padding.
func (c converter) same(from, to uint32) bool {
	return from == to && !slices.ContainsFunc(c, func(s span) bool { return s.from != s.to })
}

// load loads the programs of devices, and the one of look-ups of sockets, with what
// reads the old tables in them.
func (t *oldTables) load(cfg Config, adopted *adoption) (*ebpf.Collection, error) {
	spec, err := loadSpec(cfg)
	if err != nil {
		return nil, err
	}
	replacements := maps.Clone(adopted.maps)
	for _, pin := range pinnedMaps() {
		if pin.old == "" {
			continue
		}
		if from := t.from[pin.name]; from != nil {
			spec.Maps[pin.old] = &ebpf.MapSpec{
				Name: pin.old, Type: from.Type(), KeySize: from.KeySize(),
				ValueSize: from.ValueSize(), MaxEntries: from.MaxEntries(), Flags: from.Flags(),
			}
			replacements[pin.old] = from
			continue
		}
		// Always empty, but long enough for what the programs would read of it.
		spec.Maps[pin.old].Value, spec.Maps[pin.old].ValueSize = nil, oldNone
		spec.Maps[pin.old].Key = nil
	}
	if err := t.configure(spec); err != nil {
		return nil, err
	}
	devices := map[string]bool{lookupProgram: true}
	for _, sides := range placesOf(&weftbpf.BpfPrograms{}) {
		for _, s := range sides {
			devices[s.name] = true
		}
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !devices[name] })
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replacements})
}

const oldNone = 0xff // WEFT_OLD_NONE

// places tells where each of the first bytes of the new layout is in the old one.
func (c converter) places(size uintptr) ([]byte, error) {
	at := bytes.Repeat([]byte{oldNone}, int(size))
	for _, s := range c {
		for i := range s.n {
			if s.to+i >= uint32(size) {
				continue // padding of the row
			}
			if s.from+i >= oldNone {
				return nil, errors.New("its entries are too long")
			}
			at[s.to+i] = byte(s.from + i)
		}
	}
	return at, nil
}

// configure has the programs read the old tables.
func (t *oldTables) configure(spec *ebpf.CollectionSpec) error {
	var c weftbpf.BpfWeftConfig
	if err := spec.Variables["weft_cfg"].Get(&c); err != nil {
		return err
	}
	c.OldCt = 1
	return errors.Join(spec.Variables["weft_cfg"].Set(c), spec.Variables["weft_old_at"].Set(t.at))
}
