// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"pgregory.net/rapid"
)

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

func label(key, value string) model.Label {
	return model.Label{Source: model.SourceK8s, Key: key, Value: value}
}
