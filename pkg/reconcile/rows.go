// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"slices"
	"time"
)

// Back-off of a failing row.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 30 * time.Second
)

// failure is a row that could not be brought about, and when to try again.
type failure struct {
	err   error
	delay time.Duration
	next  time.Time // zero: with every pass
}

// rows reconciles the rows of one kind. applied is what the kernel is known to
// hold; it is nil until the first comparison with the kernel. A write that failed
// may have been done all the same, in part or in full: such a row is unsure until
// a write succeeds or the kernel is read, and equals no wanted one.
type rows[K comparable, V any] struct {
	kind    string
	equal   func(a, b V) bool
	applied map[K]V
	unsure  map[K][]V // what was tried since; empty: to remove the row
	failing map[K]failure
}

func newRows[K comparable, V any](kind string, equal func(a, b V) bool) *rows[K, V] {
	return &rows[K, V]{kind: kind, equal: equal, unsure: make(map[K][]V), failing: make(map[K]failure)}
}

// holds tells whether the kernel is known to hold exactly this row.
func (r *rows[K, V]) holds(k K, v V) bool {
	have, ok := r.applied[k]
	return ok && !r.doubted(k) && r.equal(have, v)
}

// doubted tells whether the kernel may hold another row than the applied one.
func (r *rows[K, V]) doubted(k K) bool {
	_, ok := r.unsure[k]
	return ok
}

// possible lists what the kernel may hold for a key; of rows that are written in
// parts, it may be a mixture.
func (r *rows[K, V]) possible(k K) []V {
	out := slices.Clone(r.unsure[k])
	if have, ok := r.applied[k]; ok {
		out = append(out, have)
	}
	return out
}

// missing lists the wanted rows that are not in force and whose time has come;
// surplus the rows in force that are not wanted.
func (r *rows[K, V]) missing(want map[K]V, now time.Time) []K {
	var out []K
	for k, v := range want {
		if r.holds(k, v) {
			continue
		}
		if f, ok := r.failing[k]; ok && now.Before(f.next) {
			continue
		}
		out = append(out, k)
	}
	return out
}

func (r *rows[K, V]) surplus(want map[K]V, now time.Time) []K {
	var out []K
	for k := range r.applied {
		if _, ok := want[k]; ok {
			continue
		}
		if f, ok := r.failing[k]; ok && now.Before(f.next) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// done records the outcome of one attempt at a row.
func (r *rows[K, V]) done(k K, v V, err error, now time.Time) error {
	if err == nil {
		r.applied[k] = v
		delete(r.unsure, k)
		delete(r.failing, k)
		return nil
	}
	if _, ok := r.applied[k]; !ok {
		r.applied[k] = v // it may be there, and is then to be removed with the rest
	}
	tried := r.unsure[k]
	if !slices.ContainsFunc(tried, func(t V) bool { return r.equal(t, v) }) {
		tried = append(tried, v)
	}
	r.unsure[k] = tried
	return r.fail(k, err, now)
}

// removed records the outcome of one attempt to remove a row.
func (r *rows[K, V]) removed(k K, err error, now time.Time) error {
	if err == nil {
		delete(r.applied, k)
		delete(r.unsure, k)
		delete(r.failing, k)
		return nil
	}
	r.unsure[k] = append([]V{}, r.unsure[k]...)
	return r.fail(k, err, now)
}

func (r *rows[K, V]) fail(k K, err error, now time.Time) error {
	f := r.failing[k]
	f.delay = min(max(f.delay*2, minBackoff), maxBackoff)
	f.err, f.next = err, now.Add(f.delay)
	r.failing[k] = f
	return fmt.Errorf("%s %v: %w", r.kind, k, err)
}

// await notes that a row waits for another one, whose failure says when to try
// again: every pass looks at it.
func (r *rows[K, V]) await(k K, err error) error {
	r.failing[k] = failure{err: err, delay: r.failing[k].delay}
	return fmt.Errorf("%s %v: %w", r.kind, k, err)
}

// forget drops failures of rows that are neither wanted nor in force.
func (r *rows[K, V]) forget(want map[K]V) {
	for k := range r.failing {
		_, wanted := want[k]
		_, held := r.applied[k]
		if !wanted && !held {
			delete(r.failing, k)
		}
	}
}

// nextTry is when the earliest failing row is due; zero if none fails.
func (r *rows[K, V]) nextTry() time.Time {
	var at time.Time
	for _, f := range r.failing {
		if !f.next.IsZero() && (at.IsZero() || f.next.Before(at)) {
			at = f.next
		}
	}
	return at
}
