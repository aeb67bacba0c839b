// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// spareSets is how many places have an empty map ready.
const spareSets = 16

// startKeeping has retired sets and missing spares seen to, under the lock. Close
// waits for the end.
func (d *Datapath) startKeeping() {
	if d.sets.keeping || len(d.sets.retired) == 0 && len(d.sets.spare) == spareSets {
		return
	}
	d.sets.keeping = true
	d.waits.all.Go(d.keepPlaces)
}

// keepPlaces works until no set is retired and all spares are there. It is one
// goroutine that waits for one grace period after the other: each that waits takes
// a processor from the others for as long as the runtime does not notice. What an
// agent that is killed leaves, the next one finds as sets that nobody wants.
func (d *Datapath) keepPlaces() {
	for {
		full, err := d.refill(d.settled())
		if err != nil {
			d.log.Error("cannot clear the places of policy sets, they are looked at again with the kernel's maps", "error", err)
		}
		d.mu.Lock()
		d.sets.keeping = err == nil && (len(d.sets.retired) > 0 || len(d.sets.spare) < spareSets && !full)
		going := d.sets.keeping
		d.mu.Unlock()
		if !going {
			return
		}
	}
}

// refill makes missing spares, first of places whose sets are gone. The others of
// these are emptied. It tells whether no place is free for another spare.
func (d *Datapath) refill(gone []uint32) (full bool, err error) {
	d.mu.Lock()
	places := slices.Clone(gone[:min(len(gone), max(spareSets-len(d.sets.spare), 0))])
	rest := gone[len(places):]
	for len(places)+len(d.sets.spare) < spareSets {
		index, err := d.sets.free(d.maps.WeftPolsets.MaxEntries())
		if full = err != nil; full {
			break // a set that has no place says so
		}
		d.sets.busy[index] = true
		places = append(places, index)
	}
	d.mu.Unlock()
	spares, err := d.makeSpares(places)
	err = errors.Join(err, d.emptyPlaces(rest))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, index := range append(places, rest...) {
		delete(d.sets.busy, index)
	}
	d.sets.spare = append(d.sets.spare, spares...)
	return full, err
}

// makeSpares puts empty maps into places, in one call, for which the kernel waits
// once (6.8).
func (d *Datapath) makeSpares(places []uint32) (spares []sparePlace, err error) {
	fds := make([]uint32, 0, len(places))
	for _, index := range places {
		inner, err := newSetMap(d.setSpec, nil)
		if err != nil {
			closeSpares(spares)
			return nil, fmt.Errorf("making an empty policy set: %w", err)
		}
		spares = append(spares, sparePlace{index, inner})
		fds = append(fds, uint32(inner.FD()))
	}
	if err := putAll(d.maps.WeftPolsets, places, fds); err != nil {
		closeSpares(spares)
		return nil, fmt.Errorf("putting empty policy sets in place: %w", err)
	}
	return spares, nil
}

func closeSpares(spares []sparePlace) {
	for _, s := range spares {
		s.inner.Close()
	}
}

// emptyPlaces empties places side by side: all wait for the same grace period.
func (d *Datapath) emptyPlaces(places []uint32) error {
	results := make([]<-chan error, len(places))
	for i, index := range places {
		results[i] = d.waits.start(func() error { return ignoreMissing(d.maps.WeftPolsets.Delete(index)) })
	}
	var errs []error
	for i, result := range results {
		if err := <-result; err != nil {
			errs = append(errs, fmt.Errorf("policy set %d: %w", places[i], err))
		}
	}
	return errors.Join(errs...)
}

// putSet puts a set into a place of its own. One that fails half-way is in none.
func (d *Datapath) putSet(entries []model.PolicyEntry) (index uint32, err error) {
	if s, ok := d.sets.takeSpare(len(entries)); ok {
		defer s.inner.Close()
		if err := fillSet(s.inner, entries); err != nil {
			d.sets.foreign[s.index] = true
			return 0, err
		}
		return s.index, nil
	}
	if index, err = d.sets.free(d.maps.WeftPolsets.MaxEntries()); err != nil {
		return 0, err
	}
	inner, err := newSetMap(d.setSpec, entries)
	if err != nil {
		return 0, err
	}
	defer inner.Close()
	return index, d.waits.put(d.maps.WeftPolsets, index, inner)
}

// newSetMap makes and fills the map of one set.
func newSetMap(spec *ebpf.MapSpec, entries []model.PolicyEntry) (*ebpf.Map, error) {
	spec = spec.Copy()
	spec.Name = "weft_polset"
	spec.MaxEntries = max(spec.MaxEntries, uint32(len(entries)))
	inner, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, err
	}
	if err := fillSet(inner, entries); err != nil {
		inner.Close()
		return nil, err
	}
	return inner, nil
}

func fillSet(inner *ebpf.Map, entries []model.PolicyEntry) error {
	keys := make([]weftbpf.BpfWeftPolKey, len(entries))
	values := make([]weftbpf.BpfWeftPol, len(entries))
	for i, e := range entries {
		keys[i], values[i] = encodeEntry(e)
	}
	return putAll(inner, keys, values)
}
