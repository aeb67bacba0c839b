// SPDX-License-Identifier: Apache-2.0

package reconcile

import "time"

// tracked are rows of which a pass looks only at those that may not be as wanted:
// whatever is not open is held exactly as wanted, or neither wanted nor held.
type tracked[K comparable, V any] struct {
	*rows[K, V]
	want map[K]V
	open map[K]bool
}

func newTracked[K comparable, V any](kind string, equal func(a, b V) bool) *tracked[K, V] {
	return &tracked[K, V]{rows: newRows[K](kind, equal), want: make(map[K]V), open: make(map[K]bool)}
}

func (t *tracked[K, V]) set(k K, v V) { t.want[k], t.open[k] = v, true }

func (t *tracked[K, V]) drop(k K) {
	delete(t.want, k)
	t.open[k] = true
}

// adopt is that of rows, after which everything is to be looked at.
func (t *tracked[K, V]) adopt(held map[K]V) (drift int) {
	drift = t.rows.adopt(held)
	for k := range t.want {
		t.open[k] = true
	}
	for k := range t.applied {
		t.open[k] = true
	}
	return drift
}

// missing lists the wanted rows that are not in force and whose time has come;
// surplus the rows in force that are not wanted.
func (t *tracked[K, V]) missing(now time.Time) (out []K) {
	for k := range t.open {
		if v, ok := t.want[k]; ok && !t.holds(k, v) && !now.Before(t.failing[k].next) {
			out = append(out, k)
		}
	}
	return out
}

func (t *tracked[K, V]) surplus(now time.Time) (out []K) {
	for k := range t.open {
		_, wanted := t.want[k]
		if _, held := t.applied[k]; held && !wanted && !now.Before(t.failing[k].next) {
			out = append(out, k)
		}
	}
	return out
}

// settle closes what is as wanted, and drops failures of rows that are neither
// wanted nor in force.
func (t *tracked[K, V]) settle() {
	for k := range t.open {
		v, wanted := t.want[k]
		_, held := t.applied[k]
		if !wanted && !held {
			delete(t.failing, k)
		}
		if _, fails := t.failing[k]; !fails && (wanted && t.holds(k, v) || !wanted && !held) {
			delete(t.open, k)
		}
	}
	if len(t.open) == 0 {
		t.open = make(map[K]bool) // a map keeps the room that it once needed
	}
}
