// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"pgregory.net/rapid"
)

// lookup is what the kernel does with a set: longest match under the peer and
// under everybody; the higher precedence, at a tie the peer's.
func lookup(entries []model.PolicyEntry, d model.Direction, peer model.IdentityID, proto uint8, port uint16) model.PolicyEntry {
	a := longest(entries, d, peer, proto, port)
	b := longest(entries, d, model.IdentityNone, proto, port)
	if b.Precedence > a.Precedence {
		return b
	}
	return a
}

func longest(entries []model.PolicyEntry, d model.Direction, peer model.IdentityID, proto uint8, port uint16) model.PolicyEntry {
	var best model.PolicyEntry
	length := -1
	for _, e := range entries {
		if e.Direction != d || e.Peer != peer {
			continue
		}
		n := 0
		if e.Protocol != 0 {
			n = 8 + int(e.PortBits)
			shift := 16 - e.PortBits
			if e.Protocol != proto || e.Port>>shift != port>>shift {
				continue
			}
		}
		if n > length {
			best, length = e, n
		}
	}
	return best
}

// identityOf is what the kernel takes an address outside the cluster for.
func identityOf(rows []model.IPRow, addr netip.Addr) model.IdentityID {
	var id model.IdentityID
	bits := -1
	for _, r := range rows {
		if r.Prefix.Contains(addr) && r.Prefix.Bits() > bits {
			id, bits = r.Identity, r.Prefix.Bits()
		}
	}
	return id
}

// checkRows tells what must hold of every set: one row a key, no bits behind
// the length, no row without a meaning.
func checkRows(t *rapid.T, entries []model.PolicyEntry) {
	t.Helper()
	type key struct {
		d    model.Direction
		peer model.IdentityID
		prot uint8
		port uint16
		bits uint8
	}
	if !slices.IsSortedFunc(entries, model.CompareEntries) {
		t.Fatalf("entries are not in order: %+v", entries)
	}
	seen := map[key]bool{}
	for _, e := range entries {
		k := key{e.Direction, e.Peer, e.Protocol, e.Port, e.PortBits}
		if seen[k] {
			t.Fatalf("two rows for %+v", k)
		}
		seen[k] = true
		if e.PortBits < 16 && e.Port<<e.PortBits != 0 || e.PortBits > 16 {
			t.Fatalf("row %+v has bits behind its length", e)
		}
		if e.Protocol == 0 && e.PortBits != 0 || e.Action == model.ActionNone || e.Precedence == 0 || e.Rule == 0 {
			t.Fatalf("row %+v has no meaning", e)
		}
	}
}
