// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"log/slog"
	"time"
)

const (
	// firstRetry and lastRetry bound the time after a failure, and so how late the
	// cluster learns what happened while the API server was away.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 5 * time.Second
	// gather is how long changes that follow each other are gathered.
	gather = 20 * time.Millisecond
)

// follow tells until ctx ends: after a change, or after the time that tell wants to wait
// for one at most; after a failure when some time has passed, more each time.
func follow(ctx context.Context, log *slog.Logger, changed func() <-chan struct{}, tell func() (time.Duration, error)) error {
	retry := time.Duration(0)
	for {
		news := changed()
		wait, err := tell()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if retry == 0 {
				log.Warn("this node cannot tell the cluster of itself, trying again", "error", err)
			}
			retry = min(max(2*retry, firstRetry), lastRetry)
			news, wait = nil, retry
		case retry > 0:
			log.Info("this node tells the cluster of itself again")
			retry = 0
		}
		if pause(ctx, news, wait); ctx.Err() != nil {
			return nil
		}
	}
}

// pause returns some time after a change, or after the longest wait.
func pause(ctx context.Context, changed <-chan struct{}, most time.Duration) {
	longest := time.NewTimer(most)
	defer longest.Stop()
	select {
	case <-ctx.Done():
		return
	case <-longest.C:
		return
	case <-changed:
	}
	select {
	case <-ctx.Done():
	case <-time.After(gather):
	}
}
