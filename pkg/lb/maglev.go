// SPDX-License-Identifier: Apache-2.0

package lb

import "hash/fnv"

// Sizes of Maglev tables, prime numbers, each for up to so many backends that
// fewer than 2/N of the flows move when one of N goes (beyond about 120 backends
// it is more). There are few sizes, because a service that moves from one to
// another shuffles its clients.
const (
	smallTable  = 4093
	mediumTable = 16381
	largeTable  = 65537

	fewBackends    = 25
	mediumBackends = 60
)

func tableSize(backends int) uint32 {
	switch {
	case backends <= fewBackends:
		return smallTable
	case backends <= mediumBackends:
		return mediumTable
	}
	return largeTable
}

// Maglev fills a table of size slots, a prime number, with the indexes of names.
// Each name walks the table in an order of its own and takes the first free
// slot, in turns: so the shares differ by one slot at most, and few slots change
// hands when a name comes or goes. Names must be different.
func Maglev(names []string, size uint32) []int {
	table := make([]int, size)
	for i := range table {
		table[i] = -1
	}
	if len(names) == 0 {
		return nil
	}
	type walk struct{ next, step uint32 }
	walks := make([]walk, len(names))
	for i, name := range names {
		walks[i] = walk{
			next: uint32(hash64("offset", name) % uint64(size)),
			step: uint32(hash64("skip", name)%uint64(size-1)) + 1,
		}
	}
	for taken := uint32(0); ; {
		for i := range walks {
			w := &walks[i]
			for table[w.next] >= 0 {
				w.next = (w.next + w.step) % size
			}
			table[w.next] = i
			if taken++; taken == size {
				return table
			}
		}
	}
}

// hash64 is a hash of a name for one purpose, mixed so that names which differ
// in one letter share nothing (FNV-1a alone does not reach its high bits).
func hash64(purpose, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // never fails
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(name))
	x := h.Sum64()
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}
