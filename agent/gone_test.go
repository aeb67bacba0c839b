// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// fakeSockets notes when somebody looks, and answers as it was told.
type fakeSockets struct {
	can     bool
	removed chan struct{}
	left    []int // of each look; -1: it fails
	looks   []time.Duration
	begin   time.Time
}

func (f *fakeSockets) EndsSockets() bool                { return f.can }
func (f *fakeSockets) BackendsRemoved() <-chan struct{} { return f.removed }

func (f *fakeSockets) EndGoneSockets() (int, error) {
	f.looks = append(f.looks, time.Since(f.begin))
	if len(f.left) == 0 {
		return 0, nil
	}
	left := f.left[0]
	f.left = f.left[1:]
	if left < 0 {
		return 0, errors.New("not now")
	}
	return left, nil
}

// When the loop looks: once for what is left of another life, and a while later
// again; then only when it is told, or has not reached all.
func TestWhenSocketsAreLookedAt(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, n := range n {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	for _, tc := range []struct {
		name string
		left []int
		tell []time.Duration // from the beginning
		want []time.Duration
	}{
		{name: "nothing happens", want: ms(0, 1100)},
		{name: "removed later", tell: ms(5000, 5010, 5050), want: ms(0, 1100, 5000, 5100, 6200)},
		{name: "fails", left: []int{-1, -1, 0}, want: ms(0, 1100, 3200)},
		{name: "not all", left: []int{0, 0, 3, 3, 0}, tell: ms(5000), want: ms(0, 1100, 5000, 6100, 8200)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSockets{can: true, removed: make(chan struct{}, 1), left: tc.left, begin: time.Now()}
				l := &goneLoop{log: slog.New(slog.DiscardHandler), sockets: f, first: func(context.Context) error { return nil }}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				for _, at := range tc.tell {
					time.AfterFunc(at, func() {
						select {
						case f.removed <- struct{}{}:
						default:
						}
					})
				}
				if err := l.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it ends with %v", err)
				}
				if !slices.Equal(f.looks, tc.want) {
					t.Errorf("it looks at %v, want %v", f.looks, tc.want)
				}
			})
		})
	}
}

func TestStatusOfSockets(t *testing.T) {
	l := &goneLoop{log: slog.New(slog.DiscardHandler), sockets: &fakeSockets{}}
	if err := l.Run(t.Context()); err != nil {
		t.Errorf("a kernel that cannot: %v", err)
	}
	if s := l.status(); s.GetHealth() != agentv1.Health_HEALTH_OK {
		t.Errorf("a kernel that cannot: %v", s)
	}
	l.sockets = &fakeSockets{can: true, left: []int{2}}
	if l.look() {
		t.Error("two sockets were not reached, and all is said to be well")
	}
	if s := l.status(); s.GetHealth() != agentv1.Health_HEALTH_DEGRADED {
		t.Errorf("two sockets were not reached: %v", s)
	}
}
