// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// SortEntries puts entries into the canonical order: by direction, peer,
// protocol, port, length, and then by what they say.
func SortEntries(entries []PolicyEntry) { slices.SortFunc(entries, CompareEntries) }

// CompareEntries is the canonical order of entries; 0 means equal.
func CompareEntries(a, b PolicyEntry) int {
	return cmp.Or(
		cmp.Compare(a.Direction, b.Direction),
		cmp.Compare(a.Peer, b.Peer),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.PortBits, b.PortBits),
		cmp.Compare(a.Action, b.Action),
		cmp.Compare(a.Precedence, b.Precedence),
		cmp.Compare(a.Ruleset, b.Ruleset),
		cmp.Compare(a.Rule, b.Rule),
	)
}

// HashEntries names the content of a set, whatever the order of its entries:
// SHA-256 over a fixed encoding of the sorted entries, cut to 16 bytes. The
// empty set has the zero hash.
func HashEntries(entries []PolicyEntry) SetHash {
	if len(entries) == 0 {
		return SetHash{}
	}
	if !slices.IsSortedFunc(entries, CompareEntries) {
		entries = slices.Clone(entries)
		SortEntries(entries)
	}
	const width, batch = 20, 512 // bytes an entry, entries a write
	h := sha256.New()
	buf := make([]byte, 0, width*batch)
	for i, e := range entries {
		buf = append(buf, byte(e.Direction))
		buf = binary.BigEndian.AppendUint32(buf, uint32(e.Peer))
		buf = append(buf, e.Protocol)
		buf = binary.BigEndian.AppendUint16(buf, e.Port)
		buf = append(buf, e.PortBits, byte(e.Action))
		buf = binary.BigEndian.AppendUint32(buf, e.Precedence)
		buf = binary.BigEndian.AppendUint16(buf, uint16(e.Ruleset))
		buf = binary.BigEndian.AppendUint32(buf, uint32(e.Rule))
		if len(buf) == cap(buf) || i == len(entries)-1 {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	return SetHash(h.Sum(nil)[:len(SetHash{})])
}
