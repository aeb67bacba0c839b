// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"maps"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// setTable numbers policy sets: a set's number is its place in weft_polsets.
// Place 0 stands for the empty set and holds nothing. A set never changes; other
// entries are another set in another place.
//
// A set that is not wanted any more goes in two steps. While it is retired no row
// names it, but a program that read a row before may still look for it. When no
// such program is left, its place is emptied, and is free when the kernel says
// that no program uses what was there: a place never has another set for a program
// that was led there by an old row.
type setTable struct {
	places   map[model.SetHash]setPlace
	retired  map[model.SetHash]*setPlace // the pointer tells one retirement from the next
	emptying map[uint32]bool
	doubles  map[uint32]bool // places of equal sets that something else put there
	last     uint32          // place given out last; a freed one is reused late
	clearing bool            // clearRetired runs
}

type setPlace struct {
	index uint32
	flags uint16 // directions that have entries, as weft_ep_flag
}

func newSetTable() setTable {
	return setTable{retired: make(map[model.SetHash]*setPlace), emptying: make(map[uint32]bool)}
}

// free finds a place for another set in an outer map of size places.
func (t *setTable) free(size uint32) (uint32, error) {
	taken := make(map[uint32]bool, len(t.places))
	for _, p := range t.places {
		taken[p.index] = true
	}
	for i := range size - 1 {
		index := (t.last+i)%(size-1) + 1
		if !taken[index] && !t.doubles[index] && !t.leaving(index) {
			return index, nil
		}
	}
	return 0, fmt.Errorf("all %d places for policy sets are taken", size-1)
}

// leaving tells whether what is in a place counts as gone.
func (t *setTable) leaving(index uint32) bool {
	for _, p := range t.retired {
		if p.index == index {
			return true
		}
	}
	return t.emptying[index]
}

// revive takes back a set that is retired.
func (t *setTable) revive(hash model.SetHash) bool {
	p, ok := t.retired[hash]
	if ok {
		t.places[hash] = *p
		delete(t.retired, hash)
	}
	return ok
}

// DeletePolicySets forgets sets, and has their maps freed soon; one that is not
// there is no error. If an endpoint row names one of them, all stay and ErrSetInUse
// is returned.
func (d *Datapath) DeletePolicySets(hashes []model.SetHash) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := make(map[uint32]model.SetHash, len(hashes))
	for _, hash := range hashes {
		if place, ok := d.sets.places[hash]; ok {
			at[place.index] = hash
		}
	}
	if len(at) == 0 {
		return nil
	}
	err := dump(d.maps.WeftEp, func(slot uint32, row weftbpf.BpfWeftEpRow) error {
		if hash, ok := at[row.Polset]; ok && row.Ifindex != 0 {
			return fmt.Errorf("policy set %x, endpoint in slot %d: %w", hash, slot, ErrSetInUse)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, hash := range at {
		place := d.sets.places[hash]
		d.sets.retired[hash] = &place
		delete(d.sets.places, hash)
	}
	if !d.sets.clearing {
		d.sets.clearing = true
		d.waits.all.Go(d.clearRetired) // Close waits for it
	}
	return nil
}

// clearRetired takes retired sets out of the kernel until there are none. What an
// agent that is killed leaves, the next one finds as sets that nobody wants.
func (d *Datapath) clearRetired() {
	for {
		d.mu.Lock()
		old := maps.Clone(d.sets.retired)
		d.sets.clearing = len(old) > 0
		d.mu.Unlock()
		if len(old) == 0 {
			return
		}
		settle()
		d.mu.Lock()
		for hash, place := range old {
			if d.sets.retired[hash] != place { // it was wanted meanwhile
				delete(old, hash)
				continue
			}
			delete(d.sets.retired, hash)
			d.sets.emptying[place.index] = true
		}
		d.mu.Unlock()
		if err := d.emptyPlaces(old); err != nil {
			d.log.Error("cannot remove policy sets, they are removed after the next look at the kernel's maps", "error", err)
		}
	}
}

// emptyPlaces empties places side by side: all wait for the same grace period.
func (d *Datapath) emptyPlaces(old map[model.SetHash]*setPlace) error {
	results := make(map[model.SetHash]<-chan error, len(old))
	for hash, place := range old {
		results[hash] = d.waits.start(func() error { return ignoreMissing(d.maps.WeftPolsets.Delete(place.index)) })
	}
	var errs []error
	for hash, result := range results {
		if err := <-result; err != nil {
			errs = append(errs, fmt.Errorf("policy set %x: %w", hash, err))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, place := range old {
		delete(d.sets.emptying, place.index)
	}
	return errors.Join(errs...)
}
