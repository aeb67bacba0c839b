// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	tunnelPort  = 4789
	tunnelName  = "weft_vxlan"
	underlayMTU = 1500
)

// cluster is nodes on one underlay, whose outer addresses are all of one family.
type cluster struct {
	*testing.T
	outer  int    // 0: IPv4, 1: IPv6
	routed bool   // no tunnel: see routed_test.go
	cgroup string // whose sockets the programs see; empty: all
	nodes  []*node
}

// node is a network namespace with an uplink "up0", a tunnel and a datapath.
type node struct {
	*testing.T
	n      int // from 1; also its number with every other node
	outer  int
	routed bool
	cgroup string
	ns     *sandbox.NS
	dp     *datapath.Datapath
	addrs  [2]netip.Addr
	ranges [2]netip.Prefix
	uplink uint32
	pods   int
}

func newCluster(t *testing.T, outer, nodes int) *cluster {
	t.Helper()
	c := &cluster{T: t, outer: outer}
	c.build(nodes)
	return c
}

func (c *cluster) build(nodes int) {
	c.Helper()
	t := c.T
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = "under"
	ok(t, netlink.LinkAdd(bridge))
	t.Cleanup(func() { _ = netlink.LinkDel(bridge) })
	_, err := sandbox.Up("under")
	ok(t, err)
	for i := range nodes {
		c.nodes = append(c.nodes, c.node(i+1))
	}
	for _, n := range c.nodes {
		if n.routed {
			n.routes(c.nodes)
			continue
		}
		n.meet(c.nodes)
	}
}

func (c *cluster) node(i int) *node {
	c.Helper()
	n := &node{T: c.T, n: i, outer: c.outer, routed: c.routed, cgroup: c.cgroup,
		addrs: [2]netip.Addr{netip.AddrFrom4([4]byte{192, 168, 77, byte(i)}),
			netip.MustParseAddr(fmt.Sprintf("fd77::%d", i))},
		ranges: [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), 0}), 24),
			netip.MustParsePrefix(fmt.Sprintf("fd10:77:%d::/64", i))},
	}
	var err error
	n.ns, err = sandbox.NewNS(fmt.Sprintf("node%d", i))
	ok(c, err)
	c.Cleanup(func() { ok(c, n.ns.Close()) })
	wire(c.T, fmt.Sprintf("under%d", i), n.ns, "up0")
	bridge, err := netlink.LinkByName("under")
	ok(c, err)
	port, err := sandbox.Up(fmt.Sprintf("under%d", i))
	ok(c, err)
	c.Cleanup(func() { ok(c, netlink.LinkDel(port)) }) // at once; with the namespace it takes a while
	ok(c, netlink.LinkSetMaster(port, bridge))
	within(c.T, n.ns, n.furnish)
	return n
}

// wire makes a pair of devices, one of them in another namespace.
func wire(t testing.TB, name string, ns *sandbox.NS, peer string) {
	t.Helper()
	var to *os.File
	within(t, ns, func() (err error) {
		to, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	defer to.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, underlayMTU
	ok(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(to.Fd())}))
}

// furnish makes the node's devices and its datapath, from inside its namespace.
func (n *node) furnish() error {
	for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+s, []byte("1"), 0); err != nil {
			return err
		}
	}
	dev, err := sandbox.Up("up0", n.addrs[0].String()+"/24", n.addrs[1].String()+"/64")
	if err != nil {
		return err
	}
	n.uplink = uint32(dev.Attrs().Index)
	cfg := datapath.Config{
		BPFFS: fmt.Sprintf("/sys/fs/bpf/node%d", n.n), Attach: datapath.AttachTCX, FlowEvents: true,
		TunnelPort: tunnelPort, Cgroup: n.cgroup, CTEntries4: 4096, CTEntries6: 4096,
		Log: slog.New(slog.NewTextHandler(n.Output(), nil)),
	}
	if n.routed {
		cfg.TunnelPort, cfg.Direct = 0, n.ranges[:]
	}
	if n.dp, err = datapath.Open(cfg); err != nil {
		return err
	}
	n.Cleanup(func() {
		ok(n, n.dp.Close())
		within(n.T, n.ns, func() error { return datapath.Cleanup(fmt.Sprintf("/sys/fs/bpf/node%d", n.n)) })
	})
	if err := n.dp.SetHome(n.addrs[:]); err != nil {
		return err
	}
	return n.dp.SetUplinks([]model.Uplink{{Name: "up0", Index: n.uplink}})
}

// mtu is what is left of the underlay's for inner packets.
func (n *node) mtu() int {
	if n.routed {
		return underlayMTU
	}
	return underlayMTU - 50 - 20*n.outer
}

// tunnel makes the tunnel's device.
func (n *node) tunnel() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = tunnelName, n.mtu()
	err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: tunnelPort,
		UDP6ZeroCSumRx: false, UDP6ZeroCSumTx: false})
	if err != nil {
		return nil, err
	}
	dev, err := netlink.LinkByName(tunnelName)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetARPOff(dev); err != nil {
		return nil, err
	}
	err = n.dp.SetTunnel(model.TunnelDevice{Name: tunnelName, Index: uint32(dev.Attrs().Index), MTU: uint16(n.mtu())})
	if err != nil {
		return nil, err
	}
	return dev, netlink.LinkSetUp(dev)
}

// meet tells the node of all nodes.
func (n *node) meet(nodes []*node) {
	n.Helper()
	within(n.T, n.ns, func() error {
		dev, err := n.tunnel()
		if err != nil {
			return err
		}
		rows := []model.NodeRow{{IPv4: n.ranges[0], IPv6: n.ranges[1]}}
		var ips []model.IPRow
		for _, to := range nodes {
			for family, addr := range to.addrs {
				row := model.IPRow{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Identity: model.IdentityHost}
				own := model.IPRow{Prefix: to.ranges[family], Identity: model.IdentityUnknown}
				if to != n {
					row.Identity, row.Node, own.Node = model.IdentityRemoteNode, uint16(to.n), uint16(to.n)
					if err := n.route(dev, to.ranges[family], family); err != nil {
						return err
					}
				}
				ips = append(ips, row, own)
			}
			if to != n {
				rows = append(rows, model.NodeRow{Number: uint16(to.n), Outer: to.addrs[n.outer],
					IPv4: to.ranges[0], IPv6: to.ranges[1]})
			}
		}
		if err := n.dp.ApplyNodes(rows, nil); err != nil {
			return err
		}
		return n.dp.ApplyIPs(ips, nil)
	})
}

// route leads the host's own packets for a range of pods into the tunnel.
func (n *node) route(dev netlink.Link, to netip.Prefix, family int) error {
	dst, err := netlink.ParseIPNet(to.String())
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: dst,
		Src: n.addrs[family].AsSlice(), Scope: unix.RT_SCOPE_LINK})
}

// counted gives a counter of the datapath, both directions together.
func (n *node) counted(reason string) (packets uint64) {
	n.Helper()
	counters, err := n.dp.Counters()
	ok(n, err)
	for _, c := range counters {
		if model.Reason(c.Reason).String() == reason {
			packets += c.Packets
		}
	}
	return packets
}

// drops is what the node dropped so far, by reason; multicast of the hosts' own
// is everywhere.
func (n *node) drops() map[string]uint64 {
	n.Helper()
	counters, err := n.dp.Counters()
	ok(n, err)
	found := make(map[string]uint64)
	for _, c := range counters {
		if name := model.Reason(c.Reason).String(); c.Packets > 0 && c.Reason != 0 && name != "MULTICAST" {
			found[name] += c.Packets
		}
	}
	return found
}
