// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// resubscribeAfter is waited after the kernel ended a subscription (its buffer
	// ran over) or what changed could not be read.
	resubscribeAfter = time.Second
	// settleFor gathers changes that come in a burst.
	settleFor = 50 * time.Millisecond
)

var errEnded = errors.New("the subscription ended")

// subscription reports changes of one kind until done is closed.
type subscription func(done <-chan struct{}, changed func(), failed func(error)) error

// watch calls refresh at the start and after changes, until ctx ends. It fails if
// the first refresh does.
func watch(ctx context.Context, log *slog.Logger, what string, refresh func() error, subs ...subscription) error {
	for began := false; ; {
		err := watchOnce(ctx, func() error {
			err := refresh()
			began = began || err == nil
			return err
		}, subs)
		if ctx.Err() != nil {
			return nil
		}
		if !began {
			return err
		}
		log.Warn("watching "+what+" was interrupted", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(resubscribeAfter):
		}
	}
}

// watchOnce subscribes first and looks then, so that no change falls in between.
func watchOnce(ctx context.Context, refresh func() error, subs []subscription) error {
	done := make(chan struct{})
	defer close(done)
	changed, failed := make(chan struct{}, 1), make(chan error, 1)
	for _, subscribe := range subs {
		err := subscribe(done, func() { offer(changed, struct{}{}) }, func(err error) { offer(failed, err) })
		if err != nil {
			return fmt.Errorf("subscribing to changes: %w", err)
		}
	}
	for {
		if err := refresh(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("receiving changes: %w", err)
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settleFor):
		}
	}
}

// offer puts a value into a channel that has room; one that has none says enough.
func offer[T any](to chan<- T, v T) {
	select {
	case to <- v:
	default:
	}
}

// each reads a subscription's channel to its end, so that its goroutine, which
// ends when done is closed, is never left waiting for a reader.
func each[T any](updates <-chan T, done <-chan struct{}, see func(T), failed func(error)) {
	go func() { // ends with the subscription
		for u := range updates {
			see(u)
		}
		select {
		case <-done:
		default:
			failed(errEnded)
		}
	}()
}

// follow tells of each change of something that gives, as it is read, a channel that
// closes with the next.
func follow(done <-chan struct{}, changed func(), look func() <-chan struct{}) error {
	next := look()
	go func() { // ends with the subscription
		for {
			select {
			case <-done:
				return
			case <-next:
				next = look()
				changed()
			}
		}
	}()
	return nil
}

func addressChanges(done <-chan struct{}, changed func(), failed func(error)) error {
	updates := make(chan netlink.AddrUpdate, 64)
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		each(updates, done, func(netlink.AddrUpdate) { changed() }, failed)
	}
	return err
}

func linkChanges(done <-chan struct{}, changed func(), failed func(error)) error {
	updates := make(chan netlink.LinkUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		each(updates, done, func(netlink.LinkUpdate) { changed() }, failed)
	}
	return err
}

// defaultRouteChanges leaves out other routes: a host may have a million of them.
func defaultRouteChanges(done <-chan struct{}, changed func(), failed func(error)) error {
	updates := make(chan netlink.RouteUpdate, 64)
	err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{ErrorCallback: failed})
	if err == nil {
		each(updates, done, func(u netlink.RouteUpdate) {
			if isDefault(u.Route) {
				changed()
			}
		}, failed)
	}
	return err
}
