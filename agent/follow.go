// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/weftmesh/weft/pkg/state"
)

// follow calls do with the tables once their source has been read, whenever they
// have changed in anything but services, and at least every so often, until ctx ends.
func follow(ctx context.Context, tables *state.Tables, every time.Duration, do func(state.Snapshot)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen state.Basis
	for due := true; ctx.Err() == nil; {
		snap, changed := tables.Snapshot()
		if snap.Synced && (due || snap.Basis != seen) {
			do(snap)
			seen, due = snap.Basis, false
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-tick.C:
			due = true
		}
	}
}
