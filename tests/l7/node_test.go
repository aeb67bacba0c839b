// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	tunnelPort = 4789
	tunnelName = "weft_vxlan"
)

// cluster is nodes on one link, with a tunnel between them or without.
type cluster struct {
	*testing.T
	tunnel bool
	nodes  []*node
}

// node is a network namespace with an uplink "up0", a datapath and perhaps an Envoy.
type node struct {
	*testing.T
	cluster *cluster
	n       int // from 1; also its number with every other node
	ns      *sandbox.NS
	dp      *datapath.Datapath
	group   string // cgroup of its Envoy
	addrs   [2]netip.Addr
	ranges  [2]netip.Prefix
	uplink  netlink.Link
	pods    int
}

func newCluster(t *testing.T, nodes int, tunnel bool) *cluster {
	t.Helper()
	c := &cluster{T: t, tunnel: tunnel}
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
		within(t, n.ns, n.meet)
	}
	return c
}

func newNode(t *testing.T) *node {
	t.Helper()
	return newCluster(t, 1, false).nodes[0]
}

func (c *cluster) node(i int) *node {
	c.Helper()
	n := &node{T: c.T, cluster: c, n: i,
		addrs: [2]netip.Addr{netip.AddrFrom4([4]byte{192, 168, 77, byte(i)}),
			netip.MustParseAddr(fmt.Sprintf("fd77::%d", i))},
		ranges: [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), 0}), 24),
			netip.MustParsePrefix(fmt.Sprintf("fd10:77:%d::/64", i))},
	}
	n.ns = c.plug(fmt.Sprintf("node%d", i))
	n.group = n.makeGroup()
	within(c.T, n.ns, n.furnish)
	return n
}

// plug makes a namespace with a device "up0" on the cluster's link.
func (c *cluster) plug(name string) *sandbox.NS {
	c.Helper()
	ns, err := sandbox.NewNS(name)
	ok(c, err)
	c.Cleanup(func() { ok(c, ns.Close()) })
	to, err := os.Open(ns.Path)
	ok(c, err)
	defer to.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "u" + name
	ok(c, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(to.Fd())}))
	bridge, err := netlink.LinkByName("under")
	ok(c, err)
	port, err := sandbox.Up(attrs.Name)
	ok(c, err)
	c.Cleanup(func() { ok(c, netlink.LinkDel(port)) })
	ok(c, netlink.LinkSetMaster(port, bridge))
	return ns
}

func (n *node) makeGroup() string {
	n.Helper()
	mount, err := cgroup.FindMount()
	ok(n, err)
	dir := filepath.Join(mount, fmt.Sprintf("envoy%d", n.n))
	ok(n, os.Mkdir(dir, 0o755))
	n.Cleanup(func() {
		ok(n, sandbox.Eventually(n.Context(), soon, "the group of Envoy is empty", func() error { return os.Remove(dir) }))
	})
	return dir
}

func (n *node) bpffs() string { return fmt.Sprintf("/sys/fs/bpf/node%d", n.n) }

// furnish makes the node's devices and its datapath, from inside its namespace.
func (n *node) furnish() error {
	// Loose filtering of sources is what Debian has.
	for s, value := range map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "2"} {
		if err := os.WriteFile("/proc/sys/net/"+s, []byte(value), 0); err != nil {
			return err
		}
	}
	var err error
	if n.uplink, err = sandbox.Up("up0", n.addrs[0].String()+"/24", n.addrs[1].String()+"/64"); err != nil {
		return err
	}
	if err := n.open(); err != nil {
		return err
	}
	path := nodenet.ProxyPath{StateDir: n.TempDir()}
	n.Cleanup(func() {
		ok(n, n.dp.Close())
		within(n.T, n.ns, func() error { return datapath.Cleanup(n.bpffs()) })
		within(n.T, n.ns, func() error { return path.Set(false) })
	})
	if err := n.dp.SetHome(n.addrs[:]); err != nil {
		return err
	}
	up := model.Uplink{Name: "up0", Index: uint32(n.uplink.Attrs().Index), IPv4: n.addrs[0], IPv6: n.addrs[1]}
	if err := n.dp.SetUplinks([]model.Uplink{up}); err != nil {
		return err
	}
	if err := path.Set(true); err != nil {
		return err
	}
	return n.dp.SetProxy(model.Proxy{Cgroups: [model.ProxyBlocks]string{n.group}, Active: true})
}

// open opens the datapath as an agent would that starts.
func (n *node) open() (err error) {
	cfg := datapath.Config{
		BPFFS: n.bpffs(), Attach: datapath.AttachTCX, FlowEvents: true, CTEntries4: 4096, CTEntries6: 4096,
		Log: slog.New(slog.NewTextHandler(n.Output(), nil)),
	}
	if n.cluster.tunnel {
		cfg.TunnelPort = tunnelPort
	}
	n.dp, err = datapath.Open(cfg)
	return err
}

func (n *node) mtu() int {
	if n.cluster.tunnel {
		return 1450
	}
	return 1500
}

// meet tells the node of all nodes.
func (n *node) meet() error {
	dev := n.uplink
	var err error
	if n.cluster.tunnel {
		if dev, err = n.makeTunnel(); err != nil {
			return err
		}
	}
	rows := []model.NodeRow{{IPv4: n.ranges[0], IPv6: n.ranges[1]}}
	var ips []model.IPRow
	for _, to := range n.cluster.nodes {
		for family, addr := range to.addrs {
			row := model.IPRow{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Identity: model.IdentityHost}
			own := model.IPRow{Prefix: to.ranges[family], Identity: model.IdentityUnknown}
			if to != n {
				row.Identity = model.IdentityRemoteNode
				if n.cluster.tunnel {
					row.Node, own.Node = uint16(to.n), uint16(to.n)
				}
				if err := n.route(dev, to, family); err != nil {
					return err
				}
			}
			ips = append(ips, row, own)
		}
		if to != n {
			rows = append(rows, model.NodeRow{Number: uint16(to.n), Outer: to.addrs[0],
				IPv4: to.ranges[0], IPv6: to.ranges[1]})
		}
	}
	if n.cluster.tunnel {
		if err := n.dp.ApplyNodes(rows, nil); err != nil {
			return err
		}
	}
	return n.dp.ApplyIPs(ips, nil)
}

// route leads to another node's pods.
func (n *node) route(dev netlink.Link, to *node, family int) error {
	dst, err := netlink.ParseIPNet(to.ranges[family].String())
	if err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: dev.Attrs().Index, Dst: dst, Src: n.addrs[family].AsSlice()}
	if n.cluster.tunnel {
		route.Scope = unix.RT_SCOPE_LINK
	} else {
		route.Gw = net.IP(to.addrs[family].AsSlice())
	}
	return netlink.RouteReplace(route)
}

func (n *node) makeTunnel() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = tunnelName, n.mtu()
	if err := netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: tunnelPort}); err != nil {
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
