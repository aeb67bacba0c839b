// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weftmesh/weft/pkg/model"
)

// Realized tells how far the kernel has come: which revision of intent is in
// force, as a whole and endpoint by endpoint. Waiters wait for a revision, not
// for a time.
type Realized struct {
	mu        sync.Mutex
	desired   model.Revision
	realized  model.Revision
	endpoints map[uint32]EndpointStatus
	failing   map[string][]error
	changed   chan struct{}
}

// EndpointStatus is how far one endpoint has come.
type EndpointStatus struct {
	Revision model.Revision // newest revision that is in force for it
	Err      error          // why it is not further, or nil
	Waiting  string         // what it waits for, such as its identity
}

// NewRealized makes a tracker at revision 0.
func NewRealized() *Realized {
	return &Realized{endpoints: make(map[uint32]EndpointStatus), changed: make(chan struct{})}
}

// Revisions are the newest revision of intent that was looked at, and the
// newest that is in the kernel in full.
func (r *Realized) Revisions() (desired, realized model.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.desired, r.realized
}

// Changed closes when any of this has moved on.
func (r *Realized) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Endpoint is the status of one endpoint.
func (r *Realized) Endpoint(id uint32) (EndpointStatus, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.endpoints[id]
	return s, ok
}

// Failing lists the rows that cannot be brought about, by kind.
func (r *Realized) Failing() map[string][]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing
}

// WaitFirst returns when the kernel has been brought to some intent, be it that
// rows fail.
func (r *Realized) WaitFirst(ctx context.Context) error {
	return r.wait(ctx, func() bool { return r.desired > 0 }, func() error {
		return errors.New("nothing was brought to the kernel yet")
	})
}

// WaitRevision returns when that revision is in the kernel.
func (r *Realized) WaitRevision(ctx context.Context, want model.Revision) error {
	return r.wait(ctx, func() bool { return r.realized >= want }, func() error {
		return fmt.Errorf("revision %d is not in the kernel yet, revision %d is", want, r.realized)
	})
}

// WaitEndpoint returns when the endpoint's row, policy and programs are in the
// kernel as of revision want, or with what holds it up when ctx ends.
func (r *Realized) WaitEndpoint(ctx context.Context, id uint32, want model.Revision) (model.Revision, error) {
	var got model.Revision
	err := r.wait(ctx, func() bool {
		s, ok := r.endpoints[id]
		got = s.Revision
		return ok && s.Err == nil && s.Revision >= want
	}, func() error {
		s, ok := r.endpoints[id]
		switch {
		case ok && s.Err != nil:
			return fmt.Errorf("endpoint %d is not in the kernel: %w", id, s.Err)
		case ok && s.Waiting != "":
			return fmt.Errorf("endpoint %d is not in the kernel: waiting for %s", id, s.Waiting)
		}
		return fmt.Errorf("endpoint %d is not in the kernel yet (revision %d wanted, %d reached)", id, want, r.realized)
	})
	return got, err
}

func (r *Realized) wait(ctx context.Context, done func() bool, why func() error) error {
	for {
		r.mu.Lock()
		ok, changed := done(), r.changed
		reason := error(nil)
		if !ok {
			reason = why()
		}
		r.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", reason, ctx.Err())
		}
	}
}

// update publishes the outcome of one pass.
func (r *Realized) update(change func(*Realized)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
	close(r.changed)
	r.changed = make(chan struct{})
}

// Touch has those look again who wait for Changed, as something else has moved that
// they depend on.
func (r *Realized) Touch() { r.update(func(*Realized) {}) }

// RealizedAt makes a tracker at a revision that is in the kernel in full.
func RealizedAt(rev model.Revision) *Realized {
	r := NewRealized()
	r.desired, r.realized = rev, rev
	return r
}
