// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// ApplyPolicySet puts a set into the kernel, whole, before anything can see it.
func (d *Datapath) ApplyPolicySet(set model.PolicySet) error {
	if hash := model.HashEntries(set.Entries); hash != set.Hash {
		return fmt.Errorf("policy set %x has entries of %x", set.Hash, hash)
	}
	if len(set.Entries) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.sets.places[set.Hash]; ok || d.sets.revive(set.Hash) {
		return nil
	}
	index, err := d.putSet(set.Entries)
	if err != nil {
		return fmt.Errorf("putting policy set %x in place: %w", set.Hash, err)
	}
	d.sets.places[set.Hash] = setPlace{index: index, flags: ruleFlags(set.Entries)}
	d.startKeeping()
	return nil
}

// PolicySets reads the sets back from the kernel.
func (d *Datapath) PolicySets() (map[model.SetHash]model.PolicySet, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readSets()
}

// readSets dumps the sets and numbers them anew by what they really hold: a set
// that something else changed is then another one, and the right one will be
// applied and pointed to again. Of equal sets, the first place counts.
func (d *Datapath) readSets() (map[model.SetHash]model.PolicySet, error) {
	sets := make(map[model.SetHash]model.PolicySet)
	places, doubles := make(map[model.SetHash]setPlace), make(map[uint32]bool)
	var empty []uint32
	err := dumpMaps(d.maps.WeftPolsets, func(index uint32, id ebpf.MapID) error {
		if d.sets.unread(index) {
			return nil // and its map may be gone by now
		}
		entries, err := readSet(id)
		if err != nil {
			return fmt.Errorf("reading policy set %d: %w", index, err)
		}
		if len(entries) == 0 {
			empty = append(empty, index)
			return nil
		}
		hash := model.HashEntries(entries)
		if _, twice := places[hash]; twice {
			doubles[index] = true
			return nil
		}
		sets[hash] = model.PolicySet{Hash: hash, Entries: entries}
		places[hash] = setPlace{index: index, flags: ruleFlags(entries)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	named, err := d.namedPlaces()
	if err != nil {
		return nil, err
	}
	d.sets.places, d.sets.foreign = places, doubles
	for _, index := range empty { // an earlier agent had most of them ready
		if _, ok := named[index]; ok {
			d.sets.foreign[index] = true
			continue
		}
		d.sets.retire(model.SetHash{}, setPlace{index: index})
	}
	return maps.Clone(sets), nil
}

// readSet is the entries of one inner map, sorted as the compiler sorts them.
func readSet(id ebpf.MapID) ([]model.PolicyEntry, error) {
	inner, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, err
	}
	defer inner.Close()
	var entries []model.PolicyEntry
	err = dump(inner, func(key weftbpf.BpfWeftPolKey, value weftbpf.BpfWeftPol) error {
		entries = append(entries, decodeEntry(key, value))
		return nil
	})
	model.SortEntries(entries)
	return entries, err
}

// ruleFlags tells in which directions there are entries, so that an endpoint
// without any skips the look-ups.
func ruleFlags(entries []model.PolicyEntry) uint16 {
	var flags weftbpf.BpfWeftEpFlag
	if slices.ContainsFunc(entries, func(e model.PolicyEntry) bool { return e.Direction == model.Egress }) {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_RULES_EGRESS
	}
	if slices.ContainsFunc(entries, func(e model.PolicyEntry) bool { return e.Direction == model.Ingress }) {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_RULES_INGRESS
	}
	return uint16(flags)
}

// Prefix lengths of struct weft_pol_key (WEFT_POL_BITS_ANY, _PROTO).
const (
	polBitsAny   = 40
	polBitsProto = 48
)

func encodeEntry(e model.PolicyEntry) (weftbpf.BpfWeftPolKey, weftbpf.BpfWeftPol) {
	key := weftbpf.BpfWeftPolKey{Prefixlen: polBitsAny, Identity: uint32(e.Peer), Dir: uint8(e.Direction)}
	if e.Protocol != 0 {
		key.Prefixlen = polBitsProto + uint32(e.PortBits)
		key.Proto = e.Protocol
		key.Port = wire16(e.Port & ^(uint16(0xffff) >> e.PortBits))
	}
	return key, weftbpf.BpfWeftPol{
		Precedence: e.Precedence, Rule: uint32(e.Rule), Ruleset: uint16(e.Ruleset), Action: uint8(e.Action),
	}
}

func decodeEntry(key weftbpf.BpfWeftPolKey, value weftbpf.BpfWeftPol) model.PolicyEntry {
	e := model.PolicyEntry{
		Direction: model.Direction(key.Dir), Peer: model.IdentityID(key.Identity),
		Protocol: key.Proto, Port: wire16(key.Port),
		Action: model.Action(value.Action), Precedence: value.Precedence,
		Ruleset: model.RulesetID(value.Ruleset), Rule: model.RuleID(value.Rule),
	}
	if key.Prefixlen > polBitsProto {
		e.PortBits = uint8(key.Prefixlen - polBitsProto)
	}
	return e
}

// wire16 turns a number to or from the byte order of the wire.
func wire16(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}
