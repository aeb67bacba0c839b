// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package speed

import (
	"testing"

	"github.com/weftmesh/weft/tests/rounds"
)

const nodesRounds = 31

// crossing is two nodes of one kind, and a conversation between their pods.
type crossing struct {
	name string
	*pair
}

// BenchmarkNodes is requests, new connections and a stream between pods of two nodes:
// by Weft, and by what the kernel does alone on the same devices, in turn.
func BenchmarkNodes(b *testing.B) {
	b.Run("native", func(b *testing.B) {
		weft := newWeftNodes(b, newPlainNodes(b, "native", underlayMTU).routed(b), 0)
		cross(b, crossing{"weft", weft.pair()}, crossing{"kernel_routing", newPlainNodes(b, "routing", underlayMTU).routed(b).pair("")})
		weft.carried(b)
	})
	b.Run("vxlan", func(b *testing.B) {
		weft := newWeftNodes(b, newPlainNodes(b, "tunnel", vxlanMTU), vxlanPort)
		cross(b, crossing{"weft", weft.pair()}, crossing{"kernel_vxlan", newPlainNodes(b, "vxlan", vxlanMTU).tunnelled(b).pair("")})
		weft.carried(b)
	})
}

// cross measures every kind of conversation on each side.
func cross(b *testing.B, sides ...crossing) {
	for _, s := range sides {
		s.serve(b)
	}
	for _, kind := range conversations() {
		b.Run(kind.name, func(b *testing.B) {
			var all []rounds.Side
			for _, s := range sides {
				all = append(all, rounds.Side{Name: s.name, Measure: func(tb testing.TB) float64 { return kind.measure(tb, s.pair) }})
			}
			medians := rounds.Medians(b, nodesRounds, all)
			for _, s := range all {
				rounds.Report(b, s.Name, medians[s.Name]*kind.scale, kind.unit)
			}
		})
	}
}
