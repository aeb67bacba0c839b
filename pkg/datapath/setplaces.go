// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// setTable numbers policy sets: a set's number is its place in weft_polsets.
// Place 0 stands for the empty set and holds nothing. A set never changes; other
// entries are another set in another place.
//
// A set that is not wanted any more goes in two steps. While it is retired no row
// names it, but a program that read a row before may still look for it. When no
// such program is left its map is replaced, or removed, and the place is given out
// when no program uses that map either: no place ever has another set for a program
// that was led there by an old row.
type setTable struct {
	places  map[model.SetHash]setPlace
	retired map[uint32]*retiredSet // by place; the pointer tells one retirement from the next
	spare   []sparePlace           // with empty maps, so that a set is put without a grace period
	busy    map[uint32]bool        // places that keepPlaces works on
	foreign map[uint32]bool        // places that hold what the table cannot tell, until it is read anew
	last    uint32                 // place given out last; a freed one is reused late
	keeping bool                   // keepPlaces runs
}

type setPlace struct {
	index uint32
	flags uint16 // directions that have entries, as weft_ep_flag
}

type retiredSet struct {
	hash  model.SetHash // zero: an empty map that an earlier agent left
	place setPlace
}

type sparePlace struct {
	index uint32
	inner *ebpf.Map
}

func newSetTable() setTable {
	return setTable{retired: make(map[uint32]*retiredSet), busy: make(map[uint32]bool), foreign: make(map[uint32]bool)}
}

// free finds a place in an outer map of size places.
func (t *setTable) free(size uint32) (uint32, error) {
	taken := make(map[uint32]bool, len(t.places))
	for _, p := range t.places {
		taken[p.index] = true
	}
	for i := range size - 1 {
		index := (t.last+i)%(size-1) + 1
		if !taken[index] && !t.foreign[index] && !t.unread(index) {
			t.last = index
			return index, nil
		}
	}
	return 0, fmt.Errorf("all %d places for policy sets are taken", size-1)
}

// unread tells whether what is in a place is no set that anyone wants.
func (t *setTable) unread(index uint32) bool {
	for _, s := range t.spare {
		if s.index == index {
			return true
		}
	}
	return t.retired[index] != nil || t.busy[index]
}

// takeSpare gives a place whose map has room for so many entries.
func (t *setTable) takeSpare(entries int) (s sparePlace, ok bool) {
	if len(t.spare) == 0 || entries > int(t.spare[0].inner.MaxEntries()) {
		return sparePlace{}, false
	}
	s, t.spare = t.spare[0], t.spare[1:]
	return s, true
}

func (t *setTable) retire(hash model.SetHash, place setPlace) {
	t.retired[place.index] = &retiredSet{hash, place}
	delete(t.places, hash)
}

// revive takes back a set that is retired.
func (t *setTable) revive(hash model.SetHash) bool {
	for index, r := range t.retired {
		if r.hash == hash {
			t.places[hash] = r.place
			delete(t.retired, index)
			return true
		}
	}
	return false
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
	named, err := d.namedPlaces()
	if err != nil {
		return err
	}
	for index, hash := range at {
		if slot, ok := named[index]; ok {
			return fmt.Errorf("policy set %x, endpoint in slot %d: %w", hash, slot, ErrSetInUse)
		}
	}
	for _, hash := range at {
		d.sets.retire(hash, d.sets.places[hash])
	}
	d.startKeeping()
	return nil
}

// namedPlaces are the places that endpoint rows name, with the slot of one of them.
func (d *Datapath) namedPlaces() (map[uint32]uint32, error) {
	named := make(map[uint32]uint32)
	err := dump(d.maps.WeftEp, func(slot uint32, row weftbpf.BpfWeftEpRow) error {
		if row.Ifindex != 0 {
			named[row.Polset] = slot
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading which policy sets are in use: %w", err)
	}
	return named, nil
}

// settled is what clearing begins with: sets that were retired before no program can
// be on its way to, and that cannot be taken back from then on.
func (d *Datapath) settled() (gone []uint32) {
	old := d.retiredSets()
	if len(old) == 0 {
		return nil
	}
	settle()
	return d.giveUp(old)
}

func (d *Datapath) retiredSets() map[uint32]*retiredSet {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.sets.retired)
}

// giveUp makes the places of those busy that were not wanted meanwhile.
func (d *Datapath) giveUp(old map[uint32]*retiredSet) (gone []uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for index, r := range old {
		if d.sets.retired[index] == r {
			delete(d.sets.retired, index)
			d.sets.busy[index] = true
			gone = append(gone, index)
		}
	}
	return gone
}
