// SPDX-License-Identifier: Apache-2.0

// Package lease lets only the leader of the operators write. The leader election
// ends a leader's work when its lease ends, but a process that was held up, or a
// request that was, may not notice in time; so each request that changes
// something is checked against the clock of the lease as it leaves.
package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The lease's times. A leader that has not renewed it for Renew gives up; others
// take over after Duration.
const (
	Duration = 15 * time.Second
	Renew    = 10 * time.Second
	Retry    = 2 * time.Second
)

// ErrNotLeader is the error of a request that changes something without, or
// after, the lease.
var ErrNotLeader = errors.New("this operator is not the leader")

// Clock knows until when the lease is held.
type Clock struct {
	now func() time.Time

	mu    sync.Mutex
	until time.Time
}

// NewClock makes the clock of a lease that is not held; now is time.Now.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// Until is when writes have to end; the zero time without the lease.
func (c *Clock) Until() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until
}

// Leading tells whether the lease is held.
func (c *Clock) Leading() bool { return c.now().Before(c.Until()) }

// Lock is a resource lock that keeps a Clock.
type Lock struct {
	resourcelock.Interface
	clock *Clock
}

// Watch makes the lock keep the clock.
func (c *Clock) Watch(lock resourcelock.Interface) Lock { return Lock{lock, c} }

// Create implements resourcelock.Interface.
func (l Lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.held(r, func() error { return l.Interface.Create(ctx, r) })
}

// Update implements resourcelock.Interface.
func (l Lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.held(r, func() error { return l.Interface.Update(ctx, r) })
}

// held counts from before the request: others count from when it took effect.
func (l Lock) held(r resourcelock.LeaderElectionRecord, write func() error) error {
	until := l.clock.now().Add(Renew)
	if r.HolderIdentity != l.Identity() {
		until = time.Time{} // it is given up
		l.clock.set(until)
	}
	if err := write(); err != nil {
		return err
	}
	l.clock.set(until)
	return nil
}

func (c *Clock) set(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = until
}

// Guard wraps the transport of a client: what it sends to change something needs
// the lease, and ends with it.
func (c *Clock) Guard(next http.RoundTripper) http.RoundTripper { return guard{c, next} }

type guard struct {
	clock *Clock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !changes(req) {
		return g.next.RoundTrip(req)
	}
	until := g.clock.Until()
	if !g.clock.now().Before(until) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, ErrNotLeader)
	}
	ctx, cancel := context.WithDeadline(req.Context(), until)
	resp, err := g.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = body{resp.Body, cancel}
	return resp, nil
}

// changes leaves out reads, and the lease itself.
func changes(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return !strings.HasPrefix(req.URL.Path, "/apis/coordination.k8s.io/")
}

// body ends the request's deadline when the answer has been read.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (b body) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
