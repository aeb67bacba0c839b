// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/model"
)

// holdRetired keeps retired sets in the kernel, and makes no spares, until the test
// calls keepPlaces. There is no spare, so that places are what a test says.
func holdRetired(d *Datapath) {
	d.waits.wait()
	d.sets.keeping = true
	closeSpares(d.sets.spare)
	for _, s := range d.sets.spare {
		d.sets.busy[s.index] = true
	}
	d.sets.spare = nil
}

func (d *Datapath) holdsSetAt(t *testing.T, index uint32) bool {
	t.Helper()
	return d.mapAt(t, index) != 0
}

// mapAt is the map in a place; 0: there is none.
func (d *Datapath) mapAt(t *testing.T, index uint32) (id ebpf.MapID) {
	t.Helper()
	err := d.maps.WeftPolsets.Lookup(index, &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0
	}
	must(t, err)
	return id
}

func TestAPlaceHasNoOtherSetWhileAProgramMayBeLedThere(t *testing.T) {
	d := open(t, Config{})
	holdRetired(d)
	a, b, c := policySet(80), policySet(81), policySet(82)
	must(t, d.ApplyPolicySet(a))
	place := d.sets.places[a.Hash].index
	must(t, d.DeletePolicySets([]model.SetHash{a.Hash}))
	if sets, err := d.PolicySets(); err != nil || len(sets) != 0 {
		t.Errorf("of a set that was removed there is left %v, %v", sets, err)
	}
	if !d.holdsSetAt(t, place) {
		t.Error("a set went while a program may still look for it")
	}
	d.sets.last = place - 1
	must(t, d.ApplyPolicySet(b))
	if d.sets.places[b.Hash].index == place {
		t.Error("the place of a set that has just been removed has another one")
	}
	d.keepPlaces()
	must(t, d.ApplyPolicySet(c))
	if got := d.sets.places[c.Hash].index; got != place {
		t.Errorf("the next set is in place %d, not in the one that has become a spare, %d", got, place)
	}
	sets, err := d.PolicySets()
	must(t, err)
	if len(sets) != 2 || len(sets[c.Hash].Entries) != 1 {
		t.Errorf("the kernel has %v", sets)
	}
}

func TestASetThatIsWantedAgainStays(t *testing.T) {
	d := open(t, Config{})
	holdRetired(d)
	set := policySet(80)
	must(t, d.ApplyPolicySet(set))
	place := d.sets.places[set.Hash]
	must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	row := endpointRow(1, 5, "")
	row.Set = set.Hash
	if err := d.ApplyEndpoint(row); !errors.Is(err, ErrUnknownSet) {
		t.Errorf("a row with a set that is going: %v", err)
	}
	old := d.retiredSets() // as if programs were waited for
	must(t, d.ApplyPolicySet(set))
	if gone := d.giveUp(old); len(gone) != 0 {
		t.Error("it goes though it is wanted again")
	}
	must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	if gone := d.giveUp(old); len(gone) != 0 {
		t.Error("it goes though programs found it since they were waited for")
	}
	must(t, d.ApplyPolicySet(set))
	must(t, d.ApplyEndpoint(row))
	d.keepPlaces()
	if d.sets.places[set.Hash] != place || !d.holdsSetAt(t, place.index) {
		t.Errorf("the set moved from %v to %v, or is gone", place, d.sets.places[set.Hash])
	}
}

func TestWhatWasOnItsWayOutIsFoundAfterACrash(t *testing.T) {
	d := open(t, Config{})
	holdRetired(d)
	set := policySet(80)
	must(t, d.ApplyPolicySet(set))
	must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	must(t, d.Close()) // as if killed: nothing was cleared
	d = reopen(t, Config{})
	sets, err := d.PolicySets()
	must(t, err)
	if _, ok := sets[set.Hash]; !ok || len(sets) != 1 {
		t.Fatalf("found %v", sets)
	}
	place := d.sets.places[set.Hash].index
	its := d.mapAt(t, place)
	must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	// An empty map may have its place, for the next set.
	if !eventually(t, func() bool { return d.mapAt(t, place) != its }) {
		t.Error("it stays in the kernel")
	}
}

func TestAPlaceThatARowNamesIsNotGivenOut(t *testing.T) {
	for name, entries := range map[string][]model.PolicyEntry{"a copy": policySet(80).Entries, "an empty set": nil} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Config{})
			holdRetired(d)
			set := policySet(80)
			must(t, d.ApplyPolicySet(set))
			row := endpointRow(1, 5, "")
			row.Set = set.Hash
			must(t, d.ApplyEndpoint(row))
			other, err := newSetMap(d.setSpec, entries)
			must(t, err)
			defer other.Close()
			place := d.sets.places[set.Hash].index + 1
			must(t, d.maps.WeftPolsets.Put(place, other))
			raw := kernelRow(t, d, 1)
			raw.Polset = place
			must(t, d.maps.WeftEp.Put(uint32(1), raw))

			_, err = d.PolicySets()
			must(t, err)
			d.keepPlaces()
			next := policySet(81)
			must(t, d.ApplyPolicySet(next))
			if d.sets.places[next.Hash].index == place || d.sets.unread(place) {
				t.Error("its place has another set, or will have")
			}
		})
	}
}

// occupied counts the places that have a map.
func (d *Datapath) occupied(t *testing.T) (n int) {
	t.Helper()
	for index := range d.maps.WeftPolsets.MaxEntries() {
		if d.holdsSetAt(t, index) {
			n++
		}
	}
	return n
}

func TestASetIsPutWhereAnEmptyMapIsReady(t *testing.T) {
	d := open(t, Config{})
	for range 2 {
		d.waits.wait()
		if len(d.sets.spare) != spareSets {
			t.Fatalf("%d places are ready", len(d.sets.spare))
		}
		ready, set := d.sets.spare[0].index, policySet(80)
		must(t, d.ApplyPolicySet(set))
		if got := d.sets.places[set.Hash].index; got != ready {
			t.Errorf("it is in place %d, not in %d", got, ready)
		}
		must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	}
	must(t, d.Close())
	d = reopen(t, Config{}) // what was ready is none of its own
	d.waits.wait()
	if n := d.occupied(t); n != spareSets || len(d.sets.spare) != spareSets {
		t.Errorf("after a restart %d places have a map, and %d are ready", n, len(d.sets.spare))
	}
}

func TestManySetsComeAndGo(t *testing.T) {
	d := open(t, Config{})
	var hashes []model.SetHash
	for port := range uint16(3 * maxWaits) {
		set := policySet(port + 1)
		hashes = append(hashes, set.Hash)
		must(t, d.ApplyPolicySet(set))
	}
	sets, err := d.PolicySets()
	must(t, err)
	if len(sets) != len(hashes) {
		t.Errorf("%d of %d sets are in the kernel", len(sets), len(hashes))
	}
	must(t, d.DeletePolicySets(hashes))
	d.waits.wait()
	if n := d.occupied(t); n != spareSets {
		t.Errorf("%d places have a map when there are no sets", n)
	}
	if n := len(d.sets.busy) + len(d.sets.retired); n != 0 || d.sets.keeping || len(d.sets.spare) != spareSets {
		t.Errorf("%d places are still on their way to be free, %d are ready", n, len(d.sets.spare))
	}
}
