// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"slices"
	"strings"
)

// numbers gives names 32-bit numbers: the hash of the name, or the next free
// number where that is taken. So a name has the same number after a restart, and
// whoever has one keeps it. 0 is never given. A zero value is ready.
type numbers struct {
	byName map[string]uint32
	taken  map[uint32]bool
	// adopted are numbers from before this process, by the first word of a name;
	// the next call takes them over.
	adopted map[string][]uint32
}

// update gives names that are new a number. What those that are gone had is free
// for the next call: rows that bear it may still be in the kernel.
func (n *numbers) update(fresh, gone []string) {
	if n.byName == nil {
		n.byName, n.taken = make(map[string]uint32, len(fresh)), make(map[uint32]bool, len(fresh))
	}
	slices.Sort(fresh)
	fresh = n.takeOver(slices.Compact(fresh))
	for _, name := range fresh {
		try := firstTry(name)
		for ; try == 0 || n.taken[try]; try++ {
		}
		n.give(name, try)
	}
	for _, name := range gone {
		delete(n.taken, n.byName[name])
		delete(n.byName, name)
	}
	n.adopted = nil
}

func (n *numbers) give(name string, number uint32) { n.byName[name], n.taken[number] = number, true }

func firstTry(name string) uint32 { return uint32(hash64("number", name)) }

// takeOver gives names the numbers that were adopted for their first word, first
// those that this process would give itself, and returns the names left.
func (n *numbers) takeOver(fresh []string) []string {
	if len(n.adopted) == 0 {
		return fresh
	}
	for _, own := range []bool{true, false} {
		fresh = slices.DeleteFunc(fresh, func(name string) bool {
			word, _, _ := strings.Cut(name, " ")
			for _, number := range n.adopted[word] {
				if !n.taken[number] && (!own || number == firstTry(name)) {
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
