// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

func clusterNode(name string, rest ...string) model.ClusterNode {
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

func TestRoutesLeadToTheFirstAddressOfAFamily(t *testing.T) {
	routes, faults := wantedRoutes("here", []model.ClusterNode{
		clusterNode("here", "192.0.2.1", "10.244.1.0/24"),
		clusterNode("far", "2001:db8::2", "192.0.2.2", "192.0.2.3", "10.244.2.0/24", "fd00:2::/64"),
		clusterNode("old", "192.0.2.4", "10.244.4.0/24", "fd00:4::/64"),
		clusterNode("twin", "192.0.2.5", "10.244.2.0/24"),
	})
	var got []string
	for _, r := range routes {
		got = append(got, fmt.Sprintf("%s via %s to %s", r.to, r.via, r.node))
	}
	want := []string{"10.244.2.0/24 via 192.0.2.2 to far", "10.244.4.0/24 via 192.0.2.4 to old", "fd00:2::/64 via 2001:db8::2 to far"}
	if !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	if len(faults) != 1 || !strings.Contains(faults[0], "fd00:4::/64 of node old") {
		t.Errorf("faults %q", faults)
	}
}

// inNamespace gives the test a network of its own, with eth0 on 192.0.2.0/24 and
// 2001:db8::/64.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // the thread ends with the test's goroutine, and the namespace with it
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far0"}
	peer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far0"}}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { return netlink.LinkAdd(link) },
		func() error { return addAddr(link, "192.0.2.1/24", 0) },
		func() error { return addAddr(link, "2001:db8::1/64", unix.IFA_F_NODAD) },
		// Routes of link-local addresses would come a while later.
		func() error { return sysctl("ipv6/conf/eth0/addr_gen_mode", "1") },
		func() error { return sysctl("ipv6/conf/far0/addr_gen_mode", "1") },
		func() error { return netlink.LinkSetUp(link) },
		func() error { return netlink.LinkSetUp(peer) },
		func() error { return netlink.LinkSetUp(lo) },
		func() error {
			return netlink.RouteAdd(&netlink.Route{Gw: netip.MustParseAddr("192.0.2.254").AsSlice()})
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

func addAddr(link netlink.Link, cidr string, flags int) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	a.Flags = flags
	return netlink.AddrAdd(link, a)
}

// ours lists the routes to other nodes.
func ours(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: nodeRouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			out = append(out, fmt.Sprintf("%s via %s", r.Dst, r.Gw))
		}
	}
	slices.Sort(out)
	return out
}

func TestRoutesFollowTheNodes(t *testing.T) {
	inNamespace(t)
	var nodes []model.ClusterNode
	known := true
	r := NewNodeRoutes("here", func() ([]model.ClusterNode, bool, <-chan struct{}) { return nodes, known, nil }, slog.New(slog.DiscardHandler))
	look := func(faults int, want ...string) {
		t.Helper()
		if err := r.refresh(); err != nil {
			t.Fatal(err)
		}
		if got := ours(t); !slices.Equal(got, want) {
			t.Errorf("routes %q, want %q", got, want)
		}
		if len(r.Faults()) != faults {
			t.Errorf("faults %q, want %d", r.Faults(), faults)
		}
	}
	nodes = []model.ClusterNode{clusterNode("here", "192.0.2.1", "10.244.1.0/24"),
		clusterNode("far", "192.0.2.2", "2001:db8::2", "10.244.2.0/24", "fd00:2::/64")}
	far := []string{"10.244.2.0/24 via 192.0.2.2", "fd00:2::/64 via 2001:db8::2"}
	look(0, far...)
	look(0, far...)
	known, nodes = false, nil
	look(0, far...) // an agent that does not know leaves them
	known, nodes = true, []model.ClusterNode{clusterNode("far", "192.0.2.3", "10.244.2.0/24")}
	look(0, "10.244.2.0/24 via 192.0.2.3")

	nodes = append(nodes, clusterNode("beyond", "198.51.100.7", "10.244.3.0/24"), clusterNode("me", "192.0.2.1", "10.244.5.0/24"))
	look(2, "10.244.2.0/24 via 192.0.2.3")
	if f := strings.Join(r.Faults(), "; "); !strings.Contains(f, "10.244.3.0/24 of node beyond") || !strings.Contains(f, "is this node's") {
		t.Errorf("faults %q", f)
	}
	dst, err := netlink.ParseIPNet("10.244.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr("192.0.2.254").AsSlice()}); err != nil {
		t.Fatal(err)
	}
	look(1, "10.244.2.0/24 via 192.0.2.3") // someone else leads to beyond
	nodes = nil
	look(0)
	if err := removeAllRoutes(); err != nil {
		t.Error(err)
	}
}

// A range that is written wrong must not cut the node off, nor when it goes again.
func TestRoutesLeaveTheNodesNetworkAlone(t *testing.T) {
	inNamespace(t)
	add := func(to, via string) {
		t.Helper()
		dst, err := netlink.ParseIPNet(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr(via).AsSlice()}); err != nil {
			t.Fatal(err)
		}
	}
	add("10.50.0.0/24", "192.0.2.250")
	add("10.51.0.0/24", "192.0.2.2")
	others := func() []string {
		t.Helper()
		around, err := lookNearby("here", nil)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range around.others {
			out = append(out, r.String())
		}
		return out
	}
	before := others()
	for bad, why := range map[string]string{
		"192.0.2.0/24":    "contains 192.0.2.1, an address of this node",
		"192.0.0.0/8":     "contains 192.0.2.1, an address of this node",
		"192.0.2.2/31":    "contains 192.0.2.2, the address of node far",
		"192.0.2.250/31":  "contains 192.0.2.250, a router of this node's",
		"2001:db8::/64":   "contains 2001:db8::, an address of this node",
		"10.244.1.128/25": "overlaps 10.244.1.0/24, the range of this node's pods",
		"10.50.0.0/24":    "is led to by a route that is not Weft's",
		"10.51.0.0/24":    "", // the same, set by someone else
	} {
		nodes := []model.ClusterNode{clusterNode("here", "192.0.2.1", "10.244.1.0/24"),
			clusterNode("far", "192.0.2.2", "2001:db8::2", bad)}
		r := NewNodeRoutes("here", func() ([]model.ClusterNode, bool, <-chan struct{}) { return nodes, true, nil }, slog.New(slog.DiscardHandler))
		if err := r.refresh(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.Faults(), "; "); !strings.Contains(got, why) || (why == "") != (got == "") {
			t.Errorf("range %s: faults %q, want %q", bad, got, why)
		}
		if got := ours(t); len(got) > 0 {
			t.Errorf("range %s: routes %q", bad, got)
		}
		nodes = nil
		if err := r.refresh(); err != nil {
			t.Fatal(err)
		}
		if got := others(); !slices.Equal(got, before) {
			t.Fatalf("range %s: other routes are\n%q, were\n%q", bad, got, before)
		}
	}
	// A node that claims an address among others' pods takes nothing from them.
	nodes := []model.ClusterNode{clusterNode("far", "192.0.2.2", "10.244.2.0/24"), clusterNode("foe", "10.244.2.9", "192.0.2.3")}
	r := NewNodeRoutes("here", func() ([]model.ClusterNode, bool, <-chan struct{}) { return nodes, true, nil }, slog.New(slog.DiscardHandler))
	if err := r.refresh(); err != nil {
		t.Fatal(err)
	}
	if got := ours(t); !slices.Equal(got, []string{"10.244.2.0/24 via 192.0.2.2"}) {
		t.Errorf("routes %q, faults %q", got, r.Faults())
	}
}
