// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/weftmesh/weft/pkg/state"
)

// follow calls do with the tables once their source has been read, whenever they
// have changed, and at least every so often, until ctx ends.
func follow(ctx context.Context, tables *state.Tables, every time.Duration, do func(state.Snapshot)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		snap, changed := tables.Snapshot()
		if snap.Synced {
			do(snap)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}
