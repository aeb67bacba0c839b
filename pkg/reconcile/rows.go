// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
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
	next  time.Time
}

// rows reconciles the rows of one kind. applied is what the kernel is known to
// hold; it is nil until the first comparison with the kernel.
type rows[K comparable, V any] struct {
	kind    string
	equal   func(a, b V) bool
	applied map[K]V
	failing map[K]failure
}

func newRows[K comparable, V any](kind string, equal func(a, b V) bool) *rows[K, V] {
	return &rows[K, V]{kind: kind, equal: equal, failing: make(map[K]failure)}
}

// missing lists the wanted rows that are not in force and whose time has come;
// surplus the rows in force that are not wanted. Both are sorted by less.
func (r *rows[K, V]) missing(want map[K]V, now time.Time) []K {
	var out []K
	for k, v := range want {
		if have, ok := r.applied[k]; ok && r.equal(have, v) {
			delete(r.failing, k)
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
		delete(r.failing, k)
		return nil
	}
	// What the kernel holds after a failure is not known to be the old row.
	return r.fail(k, err, now)
}

// removed records the outcome of one attempt to remove a row.
func (r *rows[K, V]) removed(k K, err error, now time.Time) error {
	if err == nil {
		delete(r.applied, k)
		delete(r.failing, k)
		return nil
	}
	return r.fail(k, err, now)
}

func (r *rows[K, V]) fail(k K, err error, now time.Time) error {
	f := r.failing[k]
	f.delay = min(max(f.delay*2, minBackoff), maxBackoff)
	f.err, f.next = err, now.Add(f.delay)
	r.failing[k] = f
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
		if at.IsZero() || f.next.Before(at) {
			at = f.next
		}
	}
	return at
}
