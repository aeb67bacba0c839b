// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"slices"
	"strings"
)

// numbers gives names 32-bit numbers: the hash of the name, or the next free
// number where that is taken. So a name has the same number after a restart, and
// whoever has one keeps it. 0 is never given.
type numbers struct {
	byName map[string]uint32
	taken  map[uint32]string
	// adopted are numbers from before this process, by the first word of a name;
	// the next call takes them over.
	adopted map[string][]uint32
}

// update gives every name a number. Names that are gone keep theirs until the
// next call: rows that bear it may still be in the kernel.
func (n *numbers) update(names []string) {
	next := numbers{byName: make(map[string]uint32, len(names)), taken: make(map[uint32]string, len(names))}
	var fresh []string
	for _, name := range names {
		if have, ok := n.byName[name]; ok {
			next.give(name, have)
		} else {
			fresh = append(fresh, name)
		}
	}
	slices.Sort(fresh)
	fresh = next.takeOver(slices.Compact(fresh), n.adopted)
	for _, name := range fresh {
		try := firstTry(name)
		for ; try == 0 || next.taken[try] != "" || n.taken[try] != ""; try++ {
		}
		next.give(name, try)
	}
	*n = next
}

func (n *numbers) give(name string, number uint32) { n.byName[name], n.taken[number] = number, name }

func firstTry(name string) uint32 { return uint32(hash64("number", name)) }

// takeOver gives names the numbers that were adopted for their first word, first
// those that this process would give itself, and returns the names left.
func (n *numbers) takeOver(fresh []string, adopted map[string][]uint32) []string {
	for _, own := range []bool{true, false} {
		fresh = slices.DeleteFunc(fresh, func(name string) bool {
			word, _, _ := strings.Cut(name, " ")
			for _, number := range adopted[word] {
				if n.taken[number] == "" && (!own || number == firstTry(name)) {
					n.give(name, number)
					return true
				}
			}
			return false
		})
	}
	return fresh
}

func (n *numbers) of(name string) uint32 { return n.byName[name] }
