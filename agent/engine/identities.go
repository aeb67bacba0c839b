// SPDX-License-Identifier: Apache-2.0

package engine

import (
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
	gone, came := model.DiffIdentities(x.list, now)
	x.list = now
	for _, id := range gone {
		x.remove(id)
	}
	for _, id := range came {
		x.add(id)
	}
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
