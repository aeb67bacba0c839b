// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
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

// tunnelled is a world of this node with the tunnel on, and others.
func tunnelled(t *testing.T, nodes ...model.ClusterNode) *world {
	t.Helper()
	w := newWorld(t, fake.New())
	w.turnOn()
	w.source.Nodes = append([]model.ClusterNode{clusterNode("here", "192.0.2.1", "2001:db8::1", "10.9.0.0/24")}, nodes...)
	w.must(w.tables.ReplaceHostAddrs([]netip.Addr{netip.MustParseAddr("192.0.2.1")}))
	w.apply()
	return w
}

func (w *world) turnOn() {
	n := &w.engine.cfg.Node
	n.Name, n.Tunnel = "here", true
	n.ClusterCIDRs, n.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
}

// leads says where the kernel leads a prefix: the end of the tunnel, "here" or "".
func (w *world) leads(prefix string) string {
	w.t.Helper()
	k := dump(w.t, w.dp)
	row, ok := k.ips[netip.MustParsePrefix(prefix)]
	if !ok {
		return ""
	}
	if row.Node == 0 {
		return "here"
	}
	for _, n := range k.nodes {
		if n.Number == row.Node {
			return fmt.Sprint(n.Number, " ", n.Outer)
		}
	}
	w.t.Fatalf("%s leads to node %d, of which the kernel has %v", prefix, row.Node, k.nodes)
	return ""
}

func (w *world) mustLead(want map[string]string) {
	w.t.Helper()
	for prefix, end := range want {
		if got := w.leads(prefix); got != end {
			w.t.Errorf("%s leads to %q, want %q", prefix, got, end)
		}
	}
}

func (w *world) nodes() string {
	var out []string
	for _, n := range dump(w.t, w.dp).nodes {
		out = append(out, strings.ReplaceAll(fmt.Sprint(n.Number, " ", n.Outer, " ", n.IPv4, " ", n.IPv6), "invalid Prefix", "-"))
	}
	return strings.Join(out, ", ")
}

func TestTheTunnelLeadsToWhatIsAtOtherNodes(t *testing.T) {
	a := clusterNode("a", "192.0.2.2", "2001:db8::2", "192.0.2.9", "10.9.1.0/24", "fd00:1::/64")
	b := clusterNode("b", "192.0.2.3", "192.0.2.2", "10.9.1.7", "10.9.2.0/24")
	w := tunnelled(t, a, b, clusterNode("greedy", "192.0.2.5", "10.9.0.0/20"), clusterNode("endless", "10.9.4.0/24"))
	addr := netip.MustParseAddr
	w.source.NodeSlices = []model.NodeSlice{{Name: "a-1", Node: "a", Endpoints: []model.NodeEndpoint{
		{Pod: model.PodKey{Namespace: "demo", Name: "p"}, Identity: 299, IPv4: addr("10.9.1.1"), IPv6: addr("fd00:1::1")}}}}
	api := model.EndpointSlice{EndpointSliceKey: model.EndpointSliceKey{Namespace: "default", Name: "kubernetes"},
		Service: model.ServiceKey{Namespace: "default", Name: "kubernetes"}}
	for _, x := range []string{"192.0.2.9", "198.51.100.5"} {
		api.Backends = append(api.Backends, model.Backend{Addr: addr(x), Ready: true})
	}
	w.source.EndpointSlices = []model.EndpointSlice{api}
	w.apply()
	w.identities(farIdentity(299, "friend"))
	w.settle()
	const toA, toB = "1 192.0.2.2", "2 192.0.2.3"
	w.mustLead(map[string]string{
		"10.9.1.1/32": toA, "fd00:1::1/128": toA, "10.9.1.0/24": toA, "fd00:1::/64": toA, "10.9.2.0/24": toB,
		"192.0.2.2/32": toA, "2001:db8::2/128": toA, "192.0.2.9/32": toA, "192.0.2.3/32": toB,
		"10.9.1.7/32":     toA, // whatever b says of itself
		"192.0.2.1/32":    "here",
		"198.51.100.5/32": "here",
		"10.9.0.0/16":     "here",
		"10.9.0.0/24":     "here",
		"10.9.0.0/20":     "here", // of which this node has a part
		"10.9.4.0/24":     "here",
		"0.0.0.0/0":       "here",
	})
	if got, want := w.nodes(), "0 invalid IP 10.9.0.0/24 -, 1 192.0.2.2 10.9.1.0/24 fd00:1::/64, 2 192.0.2.3 10.9.2.0/24 -, 3 192.0.2.5 - -"; got != want {
		t.Errorf("nodes %s, want %s", got, want)
	}
}

func TestNodesComeAndGoAndMove(t *testing.T) {
	a, b := clusterNode("a", "192.0.2.2", "10.9.1.0/24"), clusterNode("b", "192.0.2.3", "10.9.2.0/24")
	w := tunnelled(t, a, b)
	w.settle()
	step := func(what, rows string, lead map[string]string, nodes ...model.ClusterNode) {
		t.Helper()
		w.source.Nodes = append(w.source.Nodes[:1:1], nodes...)
		w.apply()
		w.settle()
		w.mustLead(lead)
		if got, want := w.nodes(), "0 invalid IP 10.9.0.0/24 -, "+rows; got != want {
			t.Errorf("%s: nodes %s, want %s", what, got, want)
		}
	}
	moved := clusterNode("a", "192.0.2.22", "10.9.1.0/24")
	step("another end", "2 192.0.2.3 10.9.2.0/24 -, 3 192.0.2.22 10.9.1.0/24 -", map[string]string{"10.9.1.0/24": "3 192.0.2.22"}, moved, b)
	ranged := clusterNode("a", "192.0.2.22", "10.9.5.0/24")
	step("another range", "2 192.0.2.3 10.9.2.0/24 -, 3 192.0.2.22 10.9.5.0/24 -", map[string]string{"10.9.5.0/24": "3 192.0.2.22", "10.9.1.0/24": ""}, ranged, b)
	step("a node less", "3 192.0.2.22 10.9.5.0/24 -", map[string]string{"10.9.2.0/24": ""}, ranged)

	w.drive(w.dp) // an agent starts anew
	w.turnOn()
	step("one that is back", "3 192.0.2.22 10.9.5.0/24 -, 4 192.0.2.3 10.9.2.0/24 -", map[string]string{"10.9.2.0/24": "4 192.0.2.3"}, ranged, b)

	w.drive(w.dp)
	w.engine.cfg.Node.Name, w.engine.cfg.Node.Tunnel = "here", false
	w.settle()
	if k := dump(t, w.dp); len(k.nodes)+len(k.known) > 0 || w.leads("10.9.5.0/24") != "here" {
		t.Errorf("without the tunnel there are nodes %v, identities %v", k.nodes, k.known)
	}
}

// Whatever fails, an address leads only to a node that the kernel has with that number,
// and a number means one end of the tunnel until nothing leads there any more.
func TestAddressesNeverLeadToNodesThatAreNotThere(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(t, fake.New())
		w.drive(watched{w.dp, func() {
			k := dump(t, w.dp)
			rows := map[uint16]bool{0: true}
			for _, n := range k.nodes {
				rows[n.Number] = true
			}
			for p, ip := range k.ips {
				if !rows[ip.Node] {
					t.Fatalf("seed %d: %s leads to node %d, of which the kernel has %v", seed, p, ip.Node, k.nodes)
				}
			}
		}})
		w.turnOn()
		if seed%2 == 1 {
			w.dp.FailAtRandom(seed, 0.3)
		}
		for range 20 {
			w.source.Nodes = []model.ClusterNode{clusterNode("here", "192.0.2.1", "10.9.0.0/24")}
			for i := range 4 {
				if random.IntN(3) > 0 {
					w.source.Nodes = append(w.source.Nodes, clusterNode(fmt.Sprintf("n%d", i),
						fmt.Sprintf("192.0.2.%d", 10*(i+1)+random.IntN(2)), fmt.Sprintf("10.9.%d.0/24", i+1+4*random.IntN(2))))
				}
			}
			w.apply()
			w.step()
		}
		w.settle()
		for _, n := range w.source.Nodes[1:] {
			if got := w.leads(n.PodCIDRs[0].String()); !strings.HasSuffix(got, " "+n.Addrs[0].String()) {
				t.Errorf("seed %d: pods of %v are led to %q", seed, n, got)
			}
		}
	}
}
