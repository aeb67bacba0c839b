// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"slices"
)

// SortIdentities gives the list sorted by number: itself, if it is.
func SortIdentities(list []Identity) []Identity {
	byNumber := func(a, b Identity) int { return cmp.Compare(a.ID, b.ID) }
	if slices.IsSortedFunc(list, byNumber) {
		return list
	}
	return slices.SortedFunc(slices.Values(list), byNumber)
}

// DiffIdentities tells which identities went and which came from one list to the
// next, in both if the labels of a number are others now. The lists are sorted by
// number and have each once. Lists of thousands that share their rows cost little.
func DiffIdentities(old, now []Identity) (gone, came []Identity) {
	if len(old) == len(now) && (len(now) == 0 || &old[0] == &now[0]) {
		return nil, nil
	}
	for len(old) > 0 && len(now) > 0 {
		switch a, b := old[0], now[0]; {
		case a.ID < b.ID:
			gone, old = append(gone, a), old[1:]
		case a.ID > b.ID:
			came, now = append(came, b), now[1:]
		default:
			if !a.Labels.Same(b.Labels) {
				gone, came = append(gone, a), append(came, b)
			}
			old, now = old[1:], now[1:]
		}
	}
	return append(gone, old...), append(came, now...)
}

// Same tells whether labels are equal, at once if they are the same in memory.
func (ls Labels) Same(other Labels) bool {
	if len(ls) != len(other) {
		return false
	}
	return len(ls) == 0 || &ls[0] == &other[0] || slices.Equal(ls, other)
}
