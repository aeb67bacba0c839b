// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func node(name string, rest ...string) model.ClusterNode {
	n := model.ClusterNode{Name: name}
	for _, s := range rest {
		if p, err := netip.ParsePrefix(s); err == nil {
			n.PodCIDRs = append(n.PodCIDRs, p)
		} else {
			n.Addrs = append(n.Addrs, netip.MustParseAddr(s))
		}
	}
	return n
}

func TestEndsOfTunnels(t *testing.T) {
	others := []model.ClusterNode{
		node("both", "2001:db8::2", "192.0.2.2", "192.0.2.22", "10.244.2.0/24"),
		node("four", "192.0.2.3", "10.244.3.0/24"),
		node("six", "2001:db8::4", "10.244.4.0/24"),
		node("me", "192.0.2.1"),
		node("twin", "192.0.2.3"),
	}
	hosts := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for name, tc := range map[string]struct {
		self   model.ClusterNode
		ends   string
		faults []string
	}{
		"both families": {node("here", "192.0.2.1", "2001:db8::1"), "both 192.0.2.2, four 192.0.2.3, six 2001:db8::4",
			[]string{"node me", "is this node's", "node twin", "that of node four"}},
		"IPv4 alone": {node("here", "192.0.2.1"), "both 192.0.2.2, four 192.0.2.3",
			[]string{"node me", "is this", "node six", "no address of a family", "node twin", "that of"}},
		"IPv6 alone": {node("here", "2001:db8::1"), "both 2001:db8::2, six 2001:db8::4",
			[]string{"node four", "no address", "node me", "no address", "node twin", "no address"}},
		"not known yet": {node("else", "203.0.113.1"), "both 192.0.2.2, else 203.0.113.1, four 192.0.2.3, six 2001:db8::4",
			[]string{"node me", "is this", "node twin", "that of"}},
	} {
		nodes := append(slices.Clone(others), tc.self)
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		ends, faults := Ends("here", hosts, nodes)
		var got []string
		for _, e := range ends {
			got = append(got, e.Node+" "+e.Addr.String())
		}
		if text := strings.Join(got, ", "); text != tc.ends {
			t.Errorf("%s: ends %s, want %s", name, text, tc.ends)
		}
		if len(faults) != len(tc.faults)/2 {
			t.Errorf("%s: faults %q", name, faults)
			continue
		}
		for i, f := range faults {
			if !strings.Contains(f, tc.faults[2*i]) || !strings.Contains(f, tc.faults[2*i+1]) {
				t.Errorf("%s: fault %q, want %q", name, f, tc.faults[2*i:2*i+2])
			}
		}
	}
}

func TestRangesFindTheSmallest(t *testing.T) {
	r := NewRanges([]model.ClusterNode{node("wide", "10.244.0.0/16"), node("b", "10.244.2.0/24", "fd00:2::/64"), node("a", "10.244.2.0/24")})
	for p, want := range map[string]string{
		"10.244.2.7/32": "a", "10.244.2.0/24": "a", "10.244.2.0/23": "wide", "10.244.3.1/32": "wide", "10.0.0.0/8": "",
		"fd00:2::1/128": "b", "fd00:3::1/128": "",
	} {
		if got, ok := r.Find(netip.MustParsePrefix(p)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", p, got, ok, want)
		}
	}
}

func ends(addrs ...string) (out []End) {
	for _, a := range addrs {
		out = append(out, End{"node-" + a, netip.MustParseAddr(a)})
	}
	return out
}

func TestNumbersStayAndAreUsedAgainLate(t *testing.T) {
	held := map[uint16]bool{}
	n := NewNumbers([]model.NodeRow{{Number: 0}, {Number: 7, Outer: netip.MustParseAddr("192.0.2.7")}})
	update := func(e []End) string {
		t.Helper()
		got, err := n.Update(e, func(number uint16) bool { return held[number] })
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(fmt.Sprint(got), "map")
	}
	for i, step := range []struct {
		ends []End
		want string
	}{
		{ends("192.0.2.7", "192.0.2.8"), "[node-192.0.2.7:7 node-192.0.2.8:8]"},
		{ends("192.0.2.9", "192.0.2.8"), "[node-192.0.2.8:8 node-192.0.2.9:9]"},
		{ends("192.0.2.7"), "[node-192.0.2.7:10]"}, // it went meanwhile
		{nil, "[]"},
	} {
		if got := update(step.ends); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	n.last, held[1] = model.MaxNodeNumber, true
	n.of[netip.MustParseAddr("192.0.2.1")] = 1
	if got, want := update(ends("192.0.2.2")), "[node-192.0.2.2:2]"; got != want {
		t.Errorf("while the kernel holds 1: %s, want %s", got, want)
	}
	if got, want := update(ends("192.0.2.1")), "[node-192.0.2.1:1]"; got != want {
		t.Errorf("one that is back meanwhile: %s, want %s", got, want)
	}
}

func TestMoreNodesThanNumbers(t *testing.T) {
	n, many := NewNumbers(nil), []End{}
	for i := range int(model.MaxNodeNumber) + 1 {
		many = append(many, End{fmt.Sprint(i), netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})})
	}
	got, err := n.Update(many, func(uint16) bool { return false })
	if err == nil || len(got) != int(model.MaxNodeNumber) || !strings.Contains(err.Error(), "8191") {
		t.Errorf("%d numbers, %v", len(got), err)
	}
}
