// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/cilium/ebpf"
)

// adoption is what Open found pinned.
type adoption struct {
	maps    map[string]*ebpf.Map // by name, of this version
	moves   []move
	oldPins []string // of other versions, to be removed at the end
	log     *slog.Logger
}

// move is a map of another layout and the one that takes its place.
type move struct {
	pin      mapPin
	spec     *ebpf.MapSpec
	from, to *ebpf.Map
	created  bool // to is new; otherwise an earlier move was cut short
}

// carryOver is the first pass, before any program uses the new maps. An entry
// that is already there was written by new programs, and is the newer one.
func (a *adoption) carryOver() error {
	for _, m := range a.moves {
		flags := ebpf.UpdateAny
		if m.pin.live && !m.created {
			flags = ebpf.UpdateNoExist
		}
		if err := m.run(flags); err != nil {
			return fmt.Errorf("carrying over map %s: %w", m.pin.name, err)
		}
	}
	return nil
}

// fetchRest is the second pass, when no program writes the old tables any more:
// it fetches the flows that the old programs entered meanwhile, unanswered ones
// first, for an answer that comes before its flow is refused.
func (a *adoption) fetchRest() error {
	for _, m := range slices.Backward(a.moves) {
		if !m.pin.live {
			continue
		}
		if err := m.run(ebpf.UpdateNoExist); err != nil {
			return fmt.Errorf("carrying over the last of map %s: %w", m.pin.name, err)
		}
	}
	return nil
}

// removeOld lets the old maps go.
func (a *adoption) removeOld() error {
	for _, path := range a.oldPins {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the pin of an old map: %w", err)
		}
	}
	return nil
}

func (a *adoption) close() {
	for _, m := range a.maps {
		m.Close()
	}
	for _, m := range a.moves {
		m.from.Close()
	}
}

func (m move) run(flags ebpf.MapUpdateFlags) error {
	if m.spec.Type == ebpf.ArrayOfMaps {
		return m.runInner()
	}
	return copyEntries(m.from, m.to, m.spec, flags)
}

// runInner carries over each map of an array of maps.
func (m move) runInner() error {
	return dumpMaps(m.from, func(index uint32, id ebpf.MapID) error {
		old, err := ebpf.NewMapFromID(id)
		if err != nil {
			return fmt.Errorf("opening inner map %d: %w", index, err)
		}
		defer old.Close()
		inner, err := ebpf.NewMap(m.spec.InnerMap)
		if err != nil {
			return fmt.Errorf("making inner map %d: %w", index, err)
		}
		defer inner.Close()
		if err := copyEntries(old, inner, m.spec.InnerMap, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("carrying over inner map %d: %w", index, err)
		}
		return m.to.Put(index, inner)
	})
}

// copyEntries writes every entry of from to to, converted member by member.
// What has no room is left out: a smaller table cannot hold everything.
func copyEntries(from, to *ebpf.Map, spec *ebpf.MapSpec, flags ebpf.MapUpdateFlags) error {
	keys, values, err := entryConverters(from, spec)
	if err != nil {
		return err
	}
	key, value := make([]byte, spec.KeySize), make([]byte, spec.ValueSize)
	return dumpRaw(from, func(oldKey, oldValue []byte) error {
		keys.convert(key, oldKey)
		values.convert(value, oldValue)
		err := to.Update(key, value, flags)
		if errors.Is(err, ebpf.ErrKeyExist) || isFull(err) {
			return nil
		}
		return err
	})
}
