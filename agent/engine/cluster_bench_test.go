// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// bigSlice is one of the slices of a cluster of 5,000 pods with both families.
func bigSlice(i int, id model.IdentityID) model.NodeSlice {
	s := model.NodeSlice{Name: fmt.Sprintf("n%d-%d", i/8, i%8), Node: fmt.Sprintf("n%d", i/8)}
	for j := range 32 {
		n := i*32 + j
		s.Endpoints = append(s.Endpoints, model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprintf("pod-%05d", n)},
			Identity: 300 + (id+model.IdentityID(j))%100,
			IPv4:     netip.AddrFrom4([4]byte{10, 1, byte(n / 250), byte(n%250 + 1)}),
			IPv6:     netip.AddrFrom16([16]byte{0: 0xfd, 13: 1, 14: byte(n / 250), 15: byte(n%250 + 1)})})
	}
	return s
}

// BenchmarkOneRemotePodOf5000 is what it takes to follow the change of one slice.
func BenchmarkOneRemotePodOf5000(b *testing.B) {
	w := newWorld(&testing.T{}, fake.New())
	w.engine.cfg.Node.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/16")}
	var c state.Changes
	for i := range 157 {
		c.Put.NodeSlices = append(c.Put.NodeSlices, bigSlice(i, 0))
	}
	for id := range model.IdentityID(100) {
		c.Identities = append(c.Identities, farIdentity(300+id, fmt.Sprintf("role-%d", id)))
	}
	c.Synced = true
	c.Put.Pods = []model.Pod{testPod(1, map[string]string{"role": "server"})}
	if _, err := w.tables.Apply(c); err != nil {
		b.Fatal(err)
	}
	realize := func() {
		snap, _ := w.tables.Snapshot()
		w.engine.realize(b.Context(), snap)
	}
	realize()
	i := 0
	for b.Loop() {
		i++
		s := bigSlice(i%157, 0)
		s.Endpoints[3].Identity = 300 + model.IdentityID(i%100)
		if _, err := w.tables.Apply(state.Changes{Put: state.Source{NodeSlices: []model.NodeSlice{s}}}); err != nil {
			b.Fatal(err)
		}
		realize()
	}
}
