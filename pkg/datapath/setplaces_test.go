// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/model"
)

// holdRetired keeps retired sets in the kernel until the test clears them.
func holdRetired(d *Datapath) { d.sets.clearing = true }

func (d *Datapath) holdsSetAt(t *testing.T, index uint32) bool {
	t.Helper()
	var id ebpf.MapID
	err := d.maps.WeftPolsets.Lookup(index, &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false
	}
	must(t, err)
	return true
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
	d.clearRetired()
	if d.holdsSetAt(t, place) {
		t.Error("a set that was removed stays in the kernel")
	}
	d.sets.last = place - 1
	must(t, d.ApplyPolicySet(c))
	if got := d.sets.places[c.Hash].index; got != place {
		t.Errorf("the next set is in place %d, not in the one that is free, %d", got, place)
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
	must(t, d.ApplyPolicySet(set))
	must(t, d.ApplyEndpoint(row))
	d.clearRetired()
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
	must(t, d.DeletePolicySets([]model.SetHash{set.Hash}))
	if !eventually(t, func() bool { return !d.holdsSetAt(t, place) }) {
		t.Error("it stays in the kernel")
	}
}

func TestThePlaceOfACopyIsNotGivenOut(t *testing.T) {
	d := open(t, Config{})
	set := policySet(80)
	must(t, d.ApplyPolicySet(set))
	other, err := newSetMap(d.setSpec, set.Entries)
	must(t, err)
	defer other.Close()
	copied := d.sets.places[set.Hash].index + 1
	must(t, d.maps.WeftPolsets.Put(copied, other))
	_, err = d.PolicySets()
	must(t, err)
	next := policySet(81)
	must(t, d.ApplyPolicySet(next))
	if d.sets.places[next.Hash].index == copied {
		t.Error("a place that a row may name has another set")
	}
}

func TestManySetsArePutAtOnce(t *testing.T) {
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
	for index := range d.maps.WeftPolsets.MaxEntries() {
		if d.holdsSetAt(t, index) {
			t.Fatalf("there is still a set in place %d", index)
		}
	}
	if n := len(d.sets.emptying) + len(d.sets.retired); n != 0 || d.sets.clearing {
		t.Errorf("%d places are still on their way to be free", n)
	}
}
