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
	adopted map[string]uint32
}

// update gives every name a number. Names that are gone keep theirs until the
// next call: rows that bear it may still be in the kernel.
func (n *numbers) update(names []string) {
	next := numbers{byName: make(map[string]uint32, len(names)), taken: make(map[uint32]string, len(names))}
	var fresh []string
	for _, name := range names {
		if have, ok := n.byName[name]; ok {
			next.byName[name], next.taken[have] = have, name
		} else {
			fresh = append(fresh, name)
		}
	}
	slices.Sort(fresh)
	fresh = slices.DeleteFunc(slices.Compact(fresh), func(name string) bool {
		first, _, _ := strings.Cut(name, " ")
		have, ok := n.adopted[first]
		if !ok || next.taken[have] != "" {
			return false
		}
		next.byName[name], next.taken[have] = have, name
		return true
	})
	for _, name := range fresh {
		try := uint32(hash64("number", name))
		for ; try == 0 || next.taken[try] != "" || n.taken[try] != ""; try++ {
		}
		next.byName[name], next.taken[try] = try, name
	}
	*n = next
}

func (n *numbers) of(name string) uint32 { return n.byName[name] }
