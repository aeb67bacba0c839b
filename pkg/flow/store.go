// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"sync"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// Store keeps the newest flows in memory. One writer adds, any number of readers
// follow at their own pace: the writer never waits for one, and a reader that is
// overtaken is told how many flows it lost. Flows in it are never changed.
type Store struct {
	mu   sync.Mutex
	ring []*model.Flow
	next uint64        // flows ever added; flow n lies at n % len(ring)
	lost uint64        // events ever lost before they came here
	wake chan struct{} // closed, and replaced, when something was added
}

// NewStore holds up to capacity flows, at least one.
func NewStore(capacity int) *Store {
	return &Store{ring: make([]*model.Flow, max(capacity, 1)), wake: make(chan struct{})}
}

// Add appends flows, and notes events that were lost on their way here.
func (s *Store) Add(flows []*model.Flow, lost uint64) {
	if len(flows) == 0 && lost == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range flows {
		s.ring[s.next%uint64(len(s.ring))] = f
		s.next++
	}
	s.lost += lost
	close(s.wake)
	s.wake = make(chan struct{})
}

// Len is the number of flows that are held.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.next - s.oldest())
}

// oldest is the number of the oldest flow still held; mu must be held.
func (s *Store) oldest() uint64 {
	if n := uint64(len(s.ring)); s.next > n {
		return s.next - n
	}
	return 0
}

// Start tells where a reader begins.
type Start struct {
	Last  uint64    // at the newest Last flows that match; 0: all held
	Since time.Time // not before this time; zero: no limit
	Match func(*model.Flow) bool
}

// Reader walks over the flows of a store, oldest first. It is not safe for
// concurrent use; each follower has its own.
type Reader struct {
	store *Store
	start Start
	next  uint64
	lost  uint64 // of store.lost, already told
}

// Reader starts at the flows that start asks for; only flows that match are
// returned.
func (s *Store) Reader(start Start) *Reader {
	if start.Match == nil {
		start.Match = func(*model.Flow) bool { return true }
	}
	held, first, lost := s.held()
	r := &Reader{store: s, start: start, next: first, lost: lost}
	if start.Last == 0 {
		return r
	}
	var matched uint64
	for i := len(held) - 1; i >= 0 && matched < start.Last; i-- {
		r.next = first + uint64(i)
		if r.wanted(held[i]) {
			matched++
		}
	}
	return r
}

// held copies what is held (so that filters run without the lock), with the
// number of its first flow.
func (s *Store) held() (flows []*model.Flow, first, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first = s.oldest()
	flows = make([]*model.Flow, 0, s.next-first)
	for n := first; n < s.next; n++ {
		flows = append(flows, s.ring[n%uint64(len(s.ring))])
	}
	return flows, first, s.lost
}

func (r *Reader) wanted(f *model.Flow) bool {
	return (r.start.Since.IsZero() || !f.Time.Before(r.start.Since)) && r.start.Match(f)
}

// Batch is what a reader found in one step.
type Batch struct {
	Flows []*model.Flow // that match
	Lost  uint64        // overwritten before they were read, or lost in the kernel; matching or not
	End   bool          // nothing newer is held at present
}

// batchMax bounds the time that a reader holds the lock.
const batchMax = 256

// Next returns the next matching flows without waiting.
func (r *Reader) Next() Batch {
	raw, b := r.fetch()
	for _, f := range raw {
		if r.wanted(f) {
			b.Flows = append(b.Flows, f)
		}
	}
	return b
}

func (r *Reader) fetch() ([]*model.Flow, Batch) {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	b := Batch{Lost: s.lost - r.lost}
	r.lost = s.lost
	if first := s.oldest(); r.next < first {
		b.Lost += first - r.next
		r.next = first
	}
	raw := make([]*model.Flow, 0, min(s.next-r.next, batchMax))
	for ; r.next < s.next && len(raw) < batchMax; r.next++ {
		raw = append(raw, s.ring[r.next%uint64(len(s.ring))])
	}
	b.End = r.next == s.next
	return raw, b
}

// Wait returns when there is something new, or with the context's error.
func (r *Reader) Wait(ctx context.Context) error {
	r.store.mu.Lock()
	wake, news := r.store.wake, r.next < r.store.next || r.lost < r.store.lost
	r.store.mu.Unlock()
	if news {
		return nil
	}
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
