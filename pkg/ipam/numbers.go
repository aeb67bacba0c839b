// SPDX-License-Identifier: Apache-2.0

// Package ipam gives out addresses of the node's pod ranges, and other small
// numbers that must not be reused soon. It is pure bookkeeping in memory: what is
// in use is restored from the endpoints' records, and nothing here is safe for
// concurrent use.
package ipam

import (
	"errors"
	"fmt"
)

// Errors that callers branch on.
var (
	ErrExhausted = errors.New("everything is in use")
	ErrInUse     = errors.New("in use already")
	ErrOutside   = errors.New("outside of the range")
)

// Numbers gives out the numbers of a range: first each one in turn, then those
// that were given back, the one that has been free longest first. So what was
// just freed, and may still be named in a table or a cache somewhere, comes last.
type Numbers struct {
	first, last uint64
	next        uint64          // where the first pass stands
	left        uint64          // numbers the first pass has not looked at
	used        map[uint64]bool // true: in use; false: waits in freed
	freed       []uint64        // oldest first
	inUse       uint64
}

// NewNumbers is for the range first..last, both included.
func NewNumbers(first, last uint64) (*Numbers, error) {
	if last < first || last-first == ^uint64(0) {
		return nil, fmt.Errorf("bad range %d to %d", first, last)
	}
	return &Numbers{first: first, last: last, next: first, left: last - first + 1, used: map[uint64]bool{}}, nil
}

// Next takes a free number.
func (n *Numbers) Next() (uint64, error) {
	for n.left > 0 {
		v := n.next
		n.step(v)
		if _, known := n.used[v]; !known {
			n.take(v)
			return v, nil
		}
	}
	if len(n.freed) == 0 {
		return 0, ErrExhausted
	}
	v := n.freed[0]
	n.freed = n.freed[1:]
	n.take(v)
	return v, nil
}

func (n *Numbers) step(v uint64) {
	n.left--
	n.next = v + 1
	if v == n.last {
		n.next = n.first
	}
}

func (n *Numbers) take(v uint64) {
	n.used[v] = true
	n.inUse++
}

// Take marks a number as in use, as when a record is restored.
func (n *Numbers) Take(v uint64) error {
	if v < n.first || v > n.last {
		return ErrOutside
	}
	if n.used[v] {
		return ErrInUse
	}
	n.forget(v)
	n.take(v)
	return nil
}

// StartAfter makes the first pass begin behind v: what follows the number that was
// given out last before a restart is the least likely to have been in use lately.
// Only before the first Next.
func (n *Numbers) StartAfter(v uint64) {
	if v >= n.first && v <= n.last {
		n.next = v + 1
		if v == n.last {
			n.next = n.first
		}
	}
}

// forget drops v from the queue of freed numbers, if it is there.
func (n *Numbers) forget(v uint64) {
	if used, known := n.used[v]; !known || used {
		return
	}
	for i, f := range n.freed {
		if f == v {
			n.freed = append(n.freed[:i:i], n.freed[i+1:]...)
			return
		}
	}
}

// Free gives a number back; one that is not in use is left alone.
func (n *Numbers) Free(v uint64) {
	if !n.used[v] {
		return
	}
	n.used[v] = false
	n.inUse--
	n.freed = append(n.freed, v)
}

// InUse counts what is taken, Size what there is.
func (n *Numbers) InUse() uint64 { return n.inUse }

// Size is how many numbers the range has.
func (n *Numbers) Size() uint64 { return n.last - n.first + 1 }
