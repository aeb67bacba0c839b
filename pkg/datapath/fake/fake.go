// SPDX-License-Identifier: Apache-2.0

// Package fake is the datapath in memory: the same methods with the same
// contracts, for tests of what stands above it. It can fail at random, from a
// seed, with or without having done what was asked, as a kernel may.
package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
)

// ErrInjected is what a random failure returns.
var ErrInjected = errors.New("injected failure")

// Datapath is a kernel in memory.
type Datapath struct {
	mu       sync.Mutex
	random   *rand.Rand
	rate     float64
	epoch    uint32
	rows     map[uint16]model.EndpointRow
	epochs   map[uint16]uint32
	sets     map[model.SetHash]model.PolicySet
	ips      map[netip.Prefix]model.IPRow
	services serviceRows
	tunnel   tunnelRows
	proxy    proxyRows
	attached map[string]uint32
	swept    []netip.Prefix
	writes   int
}

// New is an empty kernel that never fails.
func New() *Datapath {
	return &Datapath{
		rows: make(map[uint16]model.EndpointRow), epochs: make(map[uint16]uint32),
		sets: make(map[model.SetHash]model.PolicySet), ips: make(map[netip.Prefix]model.IPRow),
		services: newServiceRows(), tunnel: newTunnelRows(), attached: make(map[string]uint32),
	}
}

// FailAtRandom makes writes fail at a rate between 0 and 1, the same ones for
// the same seed. Half of the failures happen after the write was done.
func (d *Datapath) FailAtRandom(seed uint64, rate float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.random, d.rate = rand.New(rand.NewPCG(seed, seed)), rate
}

// write does a write under the lock, unless it fails before.
func (d *Datapath) write(do func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.random != nil && d.random.Float64() < d.rate {
		if d.random.IntN(2) == 0 {
			return ErrInjected
		}
		return errors.Join(do(), ErrInjected)
	}
	return do()
}

// Attach records the device.
func (d *Datapath) Attach(ctx context.Context, ifindex uint32, ifname string) error {
	return d.write(func() error {
		if d.attached[ifname] != ifindex {
			d.writes++
		}
		d.attached[ifname] = ifindex
		return ctx.Err()
	})
}

// FinishAttach finds nothing that was put off.
func (d *Datapath) FinishAttach() (left int, err error) {
	return 0, d.write(func() error { return nil })
}

// Detach forgets the device.
func (d *Datapath) Detach(ifname string) error {
	return d.write(func() error {
		delete(d.attached, ifname)
		return nil
	})
}

// ApplyEndpoint keeps the row; its set must be there.
func (d *Datapath) ApplyEndpoint(row model.EndpointRow) error {
	return d.write(func() error {
		if row.Slot == 0 || row.Slot > 4095 || row.IfIndex == 0 {
			return fmt.Errorf("endpoint row %+v cannot be", row)
		}
		if _, ok := d.sets[row.Set]; !ok && row.Set != (model.SetHash{}) {
			return fmt.Errorf("endpoint in slot %d: %w", row.Slot, datapath.ErrUnknownSet)
		}
		old, had := d.rows[row.Slot]
		if had && old == row {
			return nil
		}
		if !had || old.Identity != row.Identity || old.Set != row.Set || old.ID != row.ID ||
			old.EnforceEgress != row.EnforceEgress || old.EnforceIngress != row.EnforceIngress ||
			old.IPv4 != row.IPv4 || old.IPv6 != row.IPv6 {
			d.epoch++
			d.epochs[row.Slot] = d.epoch
		}
		d.rows[row.Slot] = row
		d.writes++
		return nil
	})
}

// DeleteEndpoint frees the slot.
func (d *Datapath) DeleteEndpoint(slot uint16) error {
	return d.write(func() error {
		delete(d.rows, slot)
		return nil
	})
}

// ApplyPolicySet keeps the set, whose hash must be right.
func (d *Datapath) ApplyPolicySet(set model.PolicySet) error {
	return d.write(func() error {
		if hash := model.HashEntries(set.Entries); hash != set.Hash {
			return fmt.Errorf("policy set %x has entries of %x", set.Hash, hash)
		}
		if _, ok := d.sets[set.Hash]; ok || len(set.Entries) == 0 {
			return nil
		}
		set.Entries = slices.SortedFunc(slices.Values(set.Entries), model.CompareEntries)
		d.sets[set.Hash] = set
		d.writes++
		return nil
	})
}

// DeletePolicySets forgets sets if no row names one of them.
func (d *Datapath) DeletePolicySets(hashes []model.SetHash) error {
	return d.write(func() error {
		for slot, row := range d.rows {
			if _, ok := d.sets[row.Set]; ok && slices.Contains(hashes, row.Set) {
				return fmt.Errorf("policy set %x, endpoint in slot %d: %w", row.Set, slot, datapath.ErrSetInUse)
			}
		}
		for _, hash := range hashes {
			delete(d.sets, hash)
		}
		return nil
	})
}

// ApplyIPs keeps and forgets rows, and records as swept what changed.
func (d *Datapath) ApplyIPs(upsert []model.IPRow, remove []netip.Prefix) error {
	return d.write(func() error {
		for _, row := range upsert {
			row.Prefix = row.Prefix.Masked()
			if d.ips[row.Prefix] != row {
				d.swept = append(d.swept, row.Prefix)
				d.writes++
			}
			d.ips[row.Prefix] = row
		}
		for _, prefix := range remove {
			if _, ok := d.ips[prefix.Masked()]; ok {
				d.swept = append(d.swept, prefix.Masked())
			}
			delete(d.ips, prefix.Masked())
		}
		return nil
	})
}

// Endpoints is the rows by slot.
func (d *Datapath) Endpoints() ([]model.EndpointRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.rows), func(a, b model.EndpointRow) int {
		return cmp.Compare(a.Slot, b.Slot)
	}), nil
}

// PolicySets is the sets by hash.
func (d *Datapath) PolicySets() (map[model.SetHash]model.PolicySet, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.sets), nil
}

// IPs is the rows of addresses by prefix.
func (d *Datapath) IPs() ([]model.IPRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.ips), func(a, b model.IPRow) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	}), nil
}
