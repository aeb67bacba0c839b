// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// memoryEvery is how often it is looked whether memory can be given back.
const memoryEvery = 2 * time.Second

// How much more than what is in use may be kept, in bytes.
const (
	// spareLimit is as much as a calm agent fills before the next collection of garbage.
	spareLimit = 24 << 20
	// changesLimit is of what changes left, once when they have ended.
	changesLimit = 4 << 20
)

// heap is the Go heap's part of the process, in bytes.
type heap struct {
	live uint64 // in use when garbage was collected last
	held uint64 // what the system counts as the process's
}

// spare tells whether so much more than a limit is held for nothing that a collection pays.
func (h heap) spare(limit uint64) bool { return h.held > h.live+h.live/4+limit }

func readHeap() heap {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	return heap{live: s[0].Value.Uint64(), held: s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64()}
}

// giveBack returns memory to the system that a burst of changes took, as the first
// words of a large cluster are: the heap grows to twice what is in use meanwhile, and
// would stay so. It waits until changes have ended: nobody waits for the agent then.
func (a *agent) giveBack(ctx context.Context) error {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	var last model.Revision
	limit := uint64(changesLimit)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		desired, realized := a.engine.Realized().Revisions()
		if desired != realized || desired != last {
			last, limit = desired, changesLimit
			continue
		}
		if readHeap().spare(limit) {
			debug.FreeOSMemory()
		}
		limit = spareLimit
	}
}
