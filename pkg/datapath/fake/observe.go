// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
)

// Close does nothing: traffic goes on.
func (d *Datapath) Close() error { return nil }

// Attached is the devices by name.
func (d *Datapath) Attached() map[string]uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.attached)
}

// Epoch is the epoch of a slot's row.
func (d *Datapath) Epoch(slot uint16) uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epochs[slot]
}

// Writes counts the writes that changed something.
func (d *Datapath) Writes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// Swept is the prefixes whose flows were to be decided again, in order.
func (d *Datapath) Swept() []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.swept)
}

// Corrupt changes a row behind the agent's back.
func (d *Datapath) Corrupt(slot uint16, change func(*model.EndpointRow)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if row, ok := d.rows[slot]; ok {
		change(&row)
		d.rows[slot] = row
	}
}

// CollectGarbage finds nothing.
func (d *Datapath) CollectGarbage() (datapath.GCStats, error) { return datapath.GCStats{}, nil }

// Tracked is nothing.
func (d *Datapath) Tracked() datapath.GCStats { return datapath.GCStats{} }

// Counters are all at zero, and so not listed.
func (d *Datapath) Counters() ([]datapath.Counter, error) { return nil, nil }

// LostEvents is none.
func (d *Datapath) LostEvents() (uint64, error) { return 0, nil }

// EvictedUnanswered is none.
func (d *Datapath) EvictedUnanswered() (map[uint16]uint64, error) { return nil, nil }
