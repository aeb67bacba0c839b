// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// identityFinder finds the identity of a pod, if one is allocated.
type identityFinder func(model.Pod) (model.Identity, bool)

// identityIndex finds identities by a hash of their labels, as to spell out those of
// thousands takes longer than all else of a compilation. It is kept from one to the
// next and follows what changed.
type identityIndex struct {
	seed maphash.Seed
	list []model.Identity // that are in it, sorted by number
	same map[uint64][]model.Identity
}

func newIdentityIndex() *identityIndex {
	return &identityIndex{seed: maphash.MakeSeed(), same: make(map[uint64][]model.Identity)}
}

// finder answers for the pods and identities of a snapshot.
func (x *identityIndex) finder(node Node, s state.Snapshot) identityFinder {
	x.follow(s.Identities)
	labelsOf := LabelsOf(node, s)
	return func(p model.Pod) (model.Identity, bool) {
		return x.find(labelsOf(p))
	}
}

// find gives of identities with the same labels the one with the highest number.
func (x *identityIndex) find(labels model.Labels) (found model.Identity, ok bool) {
	for _, id := range x.same[x.hash(labels)] {
		if (!ok || id.ID > found.ID) && slices.Equal(id.Labels, labels) {
			found, ok = id, true
		}
	}
	return found, ok
}

// follow makes the index that of a list, which is sorted by number.
func (x *identityIndex) follow(now []model.Identity) {
	old := x.list
	x.list = now
	if len(old) == len(now) && (len(now) == 0 || &old[0] == &now[0]) {
		return
	}
	for len(old) > 0 || len(now) > 0 {
		switch order := firstNumber(old, now); {
		case order < 0:
			x.remove(old[0])
			old = old[1:]
		case order > 0:
			x.add(now[0])
			now = now[1:]
		default:
			if !sameIdentity(old[0], now[0]) {
				x.remove(old[0])
				x.add(now[0])
			}
			old, now = old[1:], now[1:]
		}
	}
}

// firstNumber tells which of two lists has the lower number first.
func firstNumber(a, b []model.Identity) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return cmp.Compare(a[0].ID, b[0].ID)
}

// sameIdentity is cheap where the labels are the same in memory, as of rows that
// were not written again.
func sameIdentity(a, b model.Identity) bool {
	if len(a.Labels) != len(b.Labels) {
		return false
	}
	return len(a.Labels) == 0 || &a.Labels[0] == &b.Labels[0] || slices.Equal(a.Labels, b.Labels)
}

func (x *identityIndex) add(id model.Identity) {
	h := x.hash(id.Labels)
	x.same[h] = append(x.same[h], id)
}

func (x *identityIndex) remove(id model.Identity) {
	h := x.hash(id.Labels)
	left := slices.DeleteFunc(x.same[h], func(have model.Identity) bool { return have.ID == id.ID })
	if x.same[h] = left; len(left) == 0 {
		delete(x.same, h)
	}
}

func (x *identityIndex) hash(labels model.Labels) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	for _, l := range labels {
		for _, part := range []string{l.Source, l.Key, l.Value} {
			_, _ = h.WriteString(part)
			_ = h.WriteByte(0)
		}
	}
	return h.Sum64()
}
