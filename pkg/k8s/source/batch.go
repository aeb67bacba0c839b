// SPDX-License-Identifier: Apache-2.0

package source

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/weftmesh/weft/pkg/state"
)

// enter puts one object, or that it is gone, into changes.
type enter func(*state.Changes)

// batch gathers what changed since the consumer was last told, of each object the
// last thing. It is safe for concurrent use.
type batch struct {
	changed chan struct{} // has room for one: there is something to take

	mu       sync.Mutex
	pending  map[string]enter // by object
	given    map[string]enter // taken, and not known to have arrived
	unlisted map[string]bool  // kinds without their first whole list
	synced   bool             // the consumer has been told
	problems map[string]Problem
	fresh    []Problem
	news     bool // problems have changed
}

func newBatch(kinds []string) *batch {
	b := &batch{changed: make(chan struct{}, 1), pending: make(map[string]enter),
		unlisted: make(map[string]bool), problems: make(map[string]Problem)}
	for _, k := range kinds {
		b.unlisted[k] = true
	}
	return b
}

// edit lets do change the batch, and wakes who hands it on.
func (b *batch) edit(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// fault notes an object with a fault, unless it is known to have it.
func (b *batch) fault(object string, p Problem) {
	if old, had := b.problems[object]; had && old == p {
		return
	}
	b.problems[object] = p
	b.fresh, b.news = append(b.fresh, p), true
}

// clear notes that an object has no fault.
func (b *batch) clear(object string) {
	if _, had := b.problems[object]; had {
		delete(b.problems, object)
		b.news = true
	}
}

// take is what to tell the consumer: nothing before every kind was listed. problems
// is nil where nothing about them is new.
func (b *batch) take() (c state.Changes, p *problems, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.news {
		all := slices.SortedFunc(maps.Values(b.problems), func(x, y Problem) int { return strings.Compare(x.String(), y.String()) })
		p = &problems{all: all, fresh: b.fresh}
		b.fresh, b.news = nil, false
	}
	if len(b.unlisted) > 0 {
		return c, p, 0
	}
	b.given, b.pending = b.pending, make(map[string]enter)
	for _, object := range slices.Sorted(maps.Keys(b.given)) {
		b.given[object](&c)
	}
	c.Synced = !b.synced
	return c, p, len(b.given)
}

// taken notes that the consumer has what it was given.
func (b *batch) taken() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given, b.synced = nil, true
}

// giveBack takes back what the consumer did not take, short of what is newer.
func (b *batch) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for object, e := range b.given {
		if _, newer := b.pending[object]; !newer {
			b.pending[object] = e
		}
	}
	b.given = nil
}

// missing lists the kinds without their first whole list.
func (b *batch) missing() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.unlisted))
}
