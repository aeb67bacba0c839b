// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

const (
	// goneApart is the time between two looks, however many backends go.
	goneApart = 100 * time.Millisecond
	// goneAgain is when to look again after backends went: a call may have chosen
	// one just before, and not been connecting yet.
	goneAgain = time.Second
	// goneRetry bounds the time between two attempts at what was not reached.
	goneRetry = 30 * time.Second
)

// goneSockets can end the sockets of backends that are gone.
type goneSockets interface {
	EndsSockets() bool
	BackendsRemoved() <-chan struct{}
	EndGoneSockets() (left int, err error)
}

// goneLoop ends sockets whose backend is gone: once when the tables have been
// read, which finds what an agent that was killed has left, and then whenever
// backends are removed.
type goneLoop struct {
	log     *slog.Logger
	sockets goneSockets
	first   func(context.Context) error // returns when removed backends are out of the kernel
	left    atomic.Int64                // sockets that could not be reached
}

// Run looks until ctx ends.
func (l *goneLoop) Run(ctx context.Context) error {
	if !l.sockets.EndsSockets() {
		return nil
	}
	if err := l.first(ctx); err != nil {
		return err
	}
	removed := true // perhaps, while no agent looked
	var retry time.Duration
	for {
		next := time.Duration(0)
		switch clean := l.look(); {
		case !clean:
			retry = min(max(2*retry, goneAgain), goneRetry)
			next = retry
		case removed:
			retry, next = 0, goneAgain
		}
		var err error
		if removed, err = l.wait(ctx, next); err != nil {
			return err
		}
	}
}

// wait returns when backends were removed, or after a time; 0: only then.
func (l *goneLoop) wait(ctx context.Context, most time.Duration) (removed bool, err error) {
	apart := time.NewTimer(goneApart)
	defer apart.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-apart.C:
	}
	var due <-chan time.Time
	if most > 0 {
		timer := time.NewTimer(most)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-l.sockets.BackendsRemoved():
		return true, nil
	case <-due:
		return false, nil
	}
}

// look ends what it can, and tells whether that was all.
func (l *goneLoop) look() bool {
	left, err := l.sockets.EndGoneSockets()
	if err != nil {
		l.log.Warn("sockets of removed backends cannot be ended, trying again", "error", err)
	}
	if before := l.left.Swap(int64(left)); left > 0 && before == 0 {
		l.log.Warn("sockets of removed backends are in network namespaces that no process and no mount leads to", "sockets", left)
	}
	return err == nil && left == 0
}

// status is the line of weft status.
func (l *goneLoop) status() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "sockets", Health: agentv1.Health_HEALTH_OK,
		Message: "those of removed backends are ended"}
	if !l.sockets.EndsSockets() {
		out.Message = "those of removed backends end by themselves: the kernel cannot end them (bpf_sock_destroy, 6.5)"
	}
	if left := l.left.Load(); left > 0 {
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = fmt.Sprintf("%d of removed backends are in network namespaces that no process and no mount leads to", left)
	}
	return out
}
