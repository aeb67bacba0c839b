// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf"
)

func TestBothWaysOfDumpingSeeEveryEntry(t *testing.T) {
	for _, typ := range []ebpf.MapType{ebpf.Hash, ebpf.LRUHash} {
		t.Run(typ.String(), func(t *testing.T) {
			const n = 3 * dumpBatch
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 8, MaxEntries: 4 * n})
			must(t, err)
			defer m.Close()
			want := make(map[uint32]uint64)
			for i := range uint32(n) {
				want[i] = uint64(i) * 3
				must(t, m.Put(i, want[i]))
			}
			batched, single := make(map[uint32]uint64), make(map[uint32]uint64)
			must(t, dump(m, func(k uint32, v uint64) error { batched[k] = v; return nil }))
			must(t, dumpSingly(m, func(k uint32, v uint64) error { single[k] = v; return nil }))
			if !maps.Equal(batched, want) || !maps.Equal(single, want) {
				t.Errorf("%d entries in batches, %d singly, want %d", len(batched), len(single), n)
			}
		})
	}
}
