// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package speed

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	underlayMTU = 1500
	vxlanMTU    = underlayMTU - 50 // outer IPv4, UDP, VXLAN and the inner frame's header
	vxlanPort   = 4789
)

// plainNode is a node that routes, with one pod that is wired exactly as Weft wires
// pods, and a cable to the other node. Nothing is attached to its devices.
type plainNode struct {
	host, pod *sandbox.NS
	number    byte // 1 or 2
	mtu       int  // of the pod
}

// plainNodes are two nodes at the ends of one cable.
type plainNodes [2]*plainNode

func newPlainNodes(tb testing.TB, label string, mtu int) (all plainNodes) {
	tb.Helper()
	for i := range all {
		host, err := sandbox.NewNS(name(label, "-", i+1))
		ok(tb, err)
		tb.Cleanup(func() { _ = host.Close() })
		all[i] = &plainNode{host: host, number: byte(i + 1), mtu: mtu}
	}
	all.lay(tb)
	for _, n := range all {
		ok(tb, n.host.Do(n.configure))
		n.pod = n.addPod(tb)
	}
	return all
}

// lay connects the nodes by their devices eth0.
func (all plainNodes) lay(tb testing.TB) {
	tb.Helper()
	far, err := os.Open(all[1].host.Path)
	ok(tb, err)
	defer far.Close()
	ok(tb, all[0].host.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "eth0", underlayMTU
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: underlayMTU, PeerNamespace: netlink.NsFd(far.Fd())})
	}))
}

func (n *plainNode) addr() netip.Addr    { return netip.AddrFrom4([4]byte{172, 31, 0, n.number}) }
func (n *plainNode) podAddr() netip.Addr { return netip.AddrFrom4([4]byte{10, 246, n.number, 2}) }
func (n *plainNode) pods() netip.Prefix  { return netip.PrefixFrom(n.podAddr(), 24).Masked() }

// other is the node at the other end.
func (n *plainNode) other() *plainNode { return &plainNode{number: 3 - n.number, mtu: n.mtu} }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// configure makes a router of the node and gives it its address.
func (n *plainNode) configure() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(n.addr(), 24))}); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// spec is the wire of the node's pod.
func (n *plainNode) spec() podnet.Spec {
	return podnet.Spec{IfName: "eth0", HostIfName: "weft00000001", MTU: n.mtu, IPv4: n.podAddr(),
		MAC: model.MAC{2, 0, 0, 0, 1, n.number}, HostMAC: model.MAC{2, 0, 0, 0, 2, n.number}}
}

func (n *plainNode) addPod(tb testing.TB) *sandbox.NS {
	tb.Helper()
	ns, err := sandbox.NewNS(name(n.host.Name, "-pod"))
	ok(tb, err)
	tb.Cleanup(func() { _ = ns.Close() })
	ok(tb, n.host.Do(func() error {
		if _, err := podnet.Create(ns.Path, n.spec()); err != nil {
			return err
		}
		if err := podnet.EnsureHost(n.spec()); err != nil {
			return err
		}
		return podnet.SetUpPod(ns.Path, n.spec())
	}))
	return ns
}

// pair is a client on the first node and a server on the second.
func (all plainNodes) pair(group string) *pair {
	return &pair{client: all[0].pod, server: all[1].pod, server4: all[1].podAddr(), group: group}
}

// routed has the other node's pods reached by its address.
func (all plainNodes) routed(tb testing.TB) plainNodes {
	tb.Helper()
	for _, n := range all {
		ok(tb, n.host.Do(func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(n.other().pods()), Gw: n.other().addr().AsSlice()})
		}))
	}
	return all
}

// tunnelled has the other node's pods reached by the kernel's own VXLAN, as those who
// configure it by routes, neighbours and forwarding entries do: one of each for a
// node, nothing is learned, and IPv4 frames have no checksum of their own outside.
func (all plainNodes) tunnelled(tb testing.TB) plainNodes {
	tb.Helper()
	for _, n := range all {
		ok(tb, n.host.Do(n.addTunnel))
	}
	return all
}

func (n *plainNode) tunnelMAC() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 3, n.number} }

func (n *plainNode) addTunnel() error {
	under, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = "vxlan1", vxlanMTU, n.tunnelMAC()
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, VtepDevIndex: under.Attrs().Index, SrcAddr: n.addr().AsSlice(), Port: vxlanPort}
	if err := netlink.LinkAdd(dev); err != nil {
		return err
	}
	// A range's first address stands for the node: nobody else has it.
	gate := func(n *plainNode) netip.Addr { return n.pods().Addr() }
	if err := netlink.AddrAdd(dev, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gate(n), 32))}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return err
	}
	far := n.other()
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: dev.Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: gate(far).AsSlice(), HardwareAddr: far.tunnelMAC()}); err != nil {
		return err
	}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: dev.Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: far.addr().AsSlice(), HardwareAddr: far.tunnelMAC()}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: dev.Index, Dst: ipNet(far.pods()), Gw: gate(far).AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
}
