// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

func TestSlicesThatSpeakForOthersAreNamedOnce(t *testing.T) {
	pod := func(name, addr string) model.NodeEndpoint {
		return model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: name}, Identity: 300, IPv4: netip.MustParseAddr(addr)}
	}
	both := pod("c", "10.244.7.3")
	both.IPv6 = netip.MustParseAddr("2001:db8::1")
	s := state.Snapshot{
		Nodes: []model.ClusterNode{
			{Name: "far", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}},
			{Name: "here", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}},
		},
		NodeSlices: []model.NodeSlice{
			{Name: "far-a", Node: "far", Endpoints: []model.NodeEndpoint{pod("a", "10.244.7.1")}},
			{Name: "far-b", Node: "far", Endpoints: []model.NodeEndpoint{pod("b", "10.244.7.2"), both, pod("d", "10.244.0.9"), pod("e", "192.0.2.1")}},
			{Name: "here-a", Node: "here", Endpoints: []model.NodeEndpoint{pod("f", "10.244.7.9")}}, // its own agent's affair
			// Its WeftNode is made anew: it speaks for what is nobody else's.
			{Name: "new-a", Node: "new", Endpoints: []model.NodeEndpoint{pod("g", "10.244.9.1"), pod("h", "10.244.7.1")}},
		},
	}
	node := Node{Name: "here", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	want := []string{
		"WeftEndpointSlice far-b of node far claims 2001:db8::1 for pod demo/c (and 2 more), which is not in that node's ranges [10.244.7.0/24]",
		"WeftEndpointSlice new-a of node new claims 10.244.7.1 for pod demo/h, which is not in that node's ranges []",
	}
	if got := ForeignClaims(node, s); !slices.Equal(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
