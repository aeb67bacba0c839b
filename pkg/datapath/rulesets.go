// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// SetRulesetLinks says how rulesets belong together: all of it. A pair that connections
// are to have no more goes first, and a new one comes when it is known what it is.
func (d *Datapath) SetRulesetLinks(l model.RulesetLinks) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	want := make(map[weftbpf.BpfWeftBothKey]uint32)
	for id, p := range l.Pairs {
		if p.Begin {
			want[weftbpf.BpfWeftBothKey{First: uint16(p.First), Then: uint16(p.Then)}] = uint32(id)
		}
	}
	if err := d.endPairs(want); err != nil {
		return err
	}
	for id := range model.RulesetID(model.MaxRulesets + 1) {
		row := weftbpf.BpfWeftRulesetRow{As: uint16(l.As[id]), Before: uint16(l.Before[id]),
			First: uint16(l.Pairs[id].First), Then: uint16(l.Pairs[id].Then)}
		if err := d.writeRuleset(id, row); err != nil {
			return err
		}
	}
	for key, id := range want {
		if err := d.maps.WeftBoth.Put(key, id); err != nil {
			return fmt.Errorf("writing the pair of rulesets %d and %d: %w", key.First, key.Then, err)
		}
	}
	return nil
}

// endPairs removes the pairs that are not wanted, or that have another number.
func (d *Datapath) endPairs(want map[weftbpf.BpfWeftBothKey]uint32) error {
	var gone []weftbpf.BpfWeftBothKey
	err := dump(d.maps.WeftBoth, func(key weftbpf.BpfWeftBothKey, id uint32) error {
		if want[key] != id {
			gone = append(gone, key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the pairs of rulesets: %w", err)
	}
	for _, key := range gone {
		if err := d.maps.WeftBoth.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("removing the pair of rulesets %d and %d: %w", key.First, key.Then, err)
		}
	}
	return nil
}

func (d *Datapath) writeRuleset(id model.RulesetID, row weftbpf.BpfWeftRulesetRow) error {
	var have weftbpf.BpfWeftRulesetRow
	if err := d.maps.WeftRuleset.Lookup(uint32(id), &have); err != nil {
		return fmt.Errorf("reading ruleset %d: %w", id, err)
	}
	if have == row {
		return nil
	}
	if err := d.maps.WeftRuleset.Put(uint32(id), row); err != nil {
		return fmt.Errorf("writing ruleset %d: %w", id, err)
	}
	return nil
}
