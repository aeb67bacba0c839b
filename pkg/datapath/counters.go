// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// Counter is how many packets met one end in one direction.
type Counter struct {
	Reason    uint8 // enum weft_reason; 0: passed
	Direction model.Direction
	Packets   uint64
	Bytes     uint64
}

// Counters sums the counters of all CPUs, by reason and direction, those at zero
// included.
func (d *Datapath) Counters() ([]Counter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	counters := make([]Counter, d.maps.WeftMetrics.MaxEntries())
	for i := range counters {
		var cpus []weftbpf.BpfWeftCounter
		if err := d.maps.WeftMetrics.Lookup(uint32(i), &cpus); err != nil {
			return nil, fmt.Errorf("reading packet counters: %w", err)
		}
		counters[i] = Counter{Reason: uint8(i / 2), Direction: model.Direction(i % 2)}
		for _, c := range cpus {
			counters[i].Packets += c.Packets
			counters[i].Bytes += c.Bytes
		}
	}
	return counters, nil
}

// LostEvents counts events that found no room in the ring buffer.
func (d *Datapath) LostEvents() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sumOf(d.maps.WeftLost, 0, "lost events")
}

// EvictedUnanswered counts unanswered flows that newer ones of the same endpoint
// pushed out, by slot; slots at zero are left out.
func (d *Datapath) EvictedUnanswered() (map[uint16]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	evicted := make(map[uint16]uint64)
	err := dump(d.maps.WeftEpstat, func(slot uint32, stat weftbpf.BpfWeftEpstatRow) error {
		if stat.PendEvicted > 0 {
			evicted[uint16(slot)] = stat.PendEvicted
		}
		return nil
	})
	return evicted, err
}
