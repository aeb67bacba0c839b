// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// numbered makes flows whose Count is their number and whose time moves a second
// each.
func numbered(first, last uint32) []*model.Flow {
	var out []*model.Flow
	for n := first; n <= last; n++ {
		out = append(out, &model.Flow{Count: n, Time: noon().Add(time.Duration(n) * time.Second)})
	}
	return out
}

func counts(flows []*model.Flow) []uint32 {
	var out []uint32
	for _, f := range flows {
		out = append(out, f.Count)
	}
	return out
}

func TestReaderStarts(t *testing.T) {
	s := NewStore(4)
	s.Add(numbered(1, 6), 0)
	even := func(f *model.Flow) bool { return f.Count%2 == 0 }
	for name, c := range map[string]struct {
		start Start
		want  []uint32
	}{
		"everything held":        {Start{}, []uint32{3, 4, 5, 6}},
		"the last two":           {Start{Last: 2}, []uint32{5, 6}},
		"more than is held":      {Start{Last: 99}, []uint32{3, 4, 5, 6}},
		"since":                  {Start{Since: noon().Add(5 * time.Second)}, []uint32{5, 6}},
		"the last one that fits": {Start{Last: 1, Match: even}, []uint32{6}},
		"the last two that fit":  {Start{Last: 2, Match: even}, []uint32{4, 6}},
		"last and since":         {Start{Last: 3, Since: noon().Add(6 * time.Second)}, []uint32{6}},
	} {
		b := s.Reader(c.start).Next()
		if !slices.Equal(counts(b.Flows), c.want) || b.Lost != 0 || !b.End {
			t.Errorf("%s: got %v lost %d end %v, want %v", name, counts(b.Flows), b.Lost, b.End, c.want)
		}
	}
	if s.Len() != 4 {
		t.Errorf("holds %d flows, want 4", s.Len())
	}
}

func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	s := NewStore(4)
	s.Add(numbered(1, 2), 0)
	r := s.Reader(Start{})
	s.Add(numbered(3, 10), 7)
	b := r.Next()
	if want := []uint32{7, 8, 9, 10}; !slices.Equal(counts(b.Flows), want) || b.Lost != 6+7 {
		t.Errorf("got %v lost %d, want %v lost 13", counts(b.Flows), b.Lost, want)
	}
	if b := r.Next(); b.Lost != 0 || len(b.Flows) != 0 || !b.End {
		t.Errorf("told twice: %+v", b)
	}
}

func TestWaitEndsWithNewsOrContext(t *testing.T) {
	s := NewStore(4)
	r := s.Reader(Start{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Wait(ctx) }()
	s.Add(numbered(1, 1), 0)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.Next()
	go func() { done <- r.Wait(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

// Whatever the interleaving, what a reader saw and what it was told it lost make
// up all flows, in order.
func TestConcurrentReadersMissNothingUnseen(t *testing.T) {
	const total = 20000
	s := NewStore(64)
	var wg sync.WaitGroup
	for range 4 {
		r := s.Reader(Start{})
		wg.Go(func() { follow(t, r, total) })
	}
	for n := uint32(1); n <= total; n += 10 {
		s.Add(numbered(n, n+9), 0)
	}
	wg.Wait()
}

func follow(t *testing.T, r *Reader, total uint64) {
	var seen uint64
	var last uint32
	for last < uint32(total) {
		if err := r.Wait(t.Context()); err != nil {
			t.Error(err)
			return
		}
		b := r.Next()
		seen += uint64(len(b.Flows)) + b.Lost
		for _, f := range b.Flows {
			if f.Count <= last {
				t.Errorf("flow %d after %d", f.Count, last)
			}
			last = f.Count
		}
	}
	if seen != total {
		t.Errorf("seen and lost make %d of %d", seen, total)
	}
}
