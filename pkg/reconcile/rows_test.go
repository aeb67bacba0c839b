// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestARowIsUnsureAfterAFailure(t *testing.T) {
	fault, now := errors.New("fault"), time.Unix(1000, 0)
	later := now.Add(time.Hour)
	r := newRows[string]("row", func(a, b int) bool { return a == b })
	r.adopt(nil)
	_ = r.done("a", 1, nil, now)

	_ = r.done("a", 2, fault, now) // may have been done
	if got := r.missing(map[string]int{"a": 1}, later); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after a failed change the old row is taken for held: missing %v", got)
	}
	_ = r.done("a", 1, nil, later)
	_ = r.removed("a", fault, later)
	if got := r.missing(map[string]int{"a": 1}, later.Add(time.Hour)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after a failed removal the row is taken for held: missing %v", got)
	}
	_ = r.done("b", 1, fault, now)
	if got := r.surplus(map[string]int{"a": 1}, later); !slices.Equal(got, []string{"b"}) {
		t.Errorf("a row that failed and may be there is not removed: surplus %v", got)
	}
}

// What the kernel may hold is what is known and all that was tried since.
func TestWhatTheKernelMayHold(t *testing.T) {
	fault, now := errors.New("fault"), time.Unix(1000, 0)
	r := newRows[string]("row", func(a, b int) bool { return a == b })
	r.adopt(map[string]int{"a": 1})
	for _, try := range []int{2, 3, 2} {
		_ = r.done("a", try, fault, now)
	}
	_ = r.removed("a", fault, now)
	if got := r.possible("a"); !slices.Equal(got, []int{2, 3, 1}) || !r.doubted("a") {
		t.Errorf("it may hold %v", got)
	}
	_ = r.done("a", 3, nil, now)
	if got := r.possible("a"); !slices.Equal(got, []int{3}) || r.doubted("a") {
		t.Errorf("after a write it may hold %v", got)
	}
	_ = r.removed("b", fault, now)
	if got := r.possible("b"); len(got) != 0 || !r.doubted("b") {
		t.Errorf("of a row that may have gone it may hold %v", got)
	}
}
