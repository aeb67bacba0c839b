// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// pod is a network namespace behind a device of a node's.
type pod struct {
	*node
	ns    *sandbox.NS
	addrs [2]netip.Addr
	row   model.EndpointRow
}

// The gateway of every pod: on the link, and nobody's.
var gateways = [2]string{"169.254.1.1", "fe80::1"}

// pod makes a pod that its own node knows, and no other.
func (n *node) pod(identity model.IdentityID) *pod {
	n.Helper()
	n.pods++
	slot := uint16(n.pods)
	v4 := n.ranges[0].Addr().As4()
	v4[3] = byte(10 + slot)
	p := &pod{node: n, addrs: [2]netip.Addr{netip.AddrFrom4(v4),
		netip.MustParseAddr(fmt.Sprintf("fd10:77:%d::%d", n.n, slot))}}
	var err error
	p.ns, err = sandbox.NewNS(fmt.Sprintf("pod%d-%d", n.n, slot))
	ok(n, err)
	n.Cleanup(func() { ok(n, p.ns.Close()) })
	host := fmt.Sprintf("wf%d", slot)
	var mac, hostMAC net.HardwareAddr
	within(n.T, n.ns, func() error {
		wire(n.T, host, p.ns, "eth0")
		dev, err := sandbox.Up(host)
		if err != nil {
			return err
		}
		p.row.IfIndex, p.row.IfName, hostMAC = uint32(dev.Attrs().Index), host, dev.Attrs().HardwareAddr
		return nil
	})
	within(n.T, p.ns, func() (err error) { mac, err = p.furnish(hostMAC); return err })
	p.row.Slot, p.row.ID, p.row.Identity = slot, uint32(100+slot), identity
	p.row.MTU = uint16(n.mtu())
	p.row.MAC, p.row.HostMAC = model.MAC(mac), model.MAC(hostMAC)
	p.row.IPv4, p.row.IPv6 = p.addrs[0], p.addrs[1]
	within(n.T, n.ns, func() error { return p.connect(mac) })
	return p
}

// furnish gives the pod its address and its way out, from inside.
func (p *pod) furnish(gateway net.HardwareAddr) (net.HardwareAddr, error) {
	dev, err := sandbox.Up("eth0", p.addrs[0].String()+"/32", p.addrs[1].String()+"/128")
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetMTU(dev, p.mtu()); err != nil {
		return nil, err
	}
	for family, gw := range gateways {
		ip := net.ParseIP(gw)
		all := []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
		neigh := &netlink.Neigh{LinkIndex: dev.Attrs().Index, IP: ip, HardwareAddr: gateway, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighSet(neigh); err != nil {
			return nil, err
		}
		route := &netlink.Route{LinkIndex: dev.Attrs().Index, Dst: all[family], Gw: ip, Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteAdd(route); err != nil {
			return nil, err
		}
	}
	return dev.Attrs().HardwareAddr, nil
}

// connect tells the node of the pod.
func (p *pod) connect(mac net.HardwareAddr) error {
	for _, addr := range p.addrs {
		dst := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
		route := &netlink.Route{LinkIndex: int(p.row.IfIndex), Dst: dst, Scope: unix.RT_SCOPE_LINK}
		if err := netlink.RouteAdd(route); err != nil {
			return err
		}
		neigh := &netlink.Neigh{LinkIndex: int(p.row.IfIndex), IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighSet(neigh); err != nil {
			return err
		}
	}
	if err := p.dp.ApplyEndpoint(p.row); err != nil {
		return err
	}
	if !p.routed {
		if err := p.dp.ApplyIdentities([]model.IdentityID{p.row.Identity}, nil); err != nil {
			return err
		}
	}
	if err := p.node.knows(p, p.row.Identity, 0, p.row.Slot); err != nil {
		return err
	}
	return p.dp.Attach(p.Context(), p.row.IfIndex, p.row.IfName)
}

// knows tells a node who has the pod's addresses.
func (n *node) knows(p *pod, identity model.IdentityID, node, slot uint16) error {
	var rows []model.IPRow
	for _, addr := range p.addrs {
		rows = append(rows, model.IPRow{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Identity: identity, Node: node, Slot: slot})
	}
	return n.dp.ApplyIPs(rows, nil)
}

// isolate gives the pod a policy: nobody may come in but by these entries.
func (p *pod) isolate(entries ...model.PolicyEntry) {
	p.Helper()
	model.SortEntries(entries)
	set := model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
	ok(p, p.dp.ApplyPolicySet(set))
	p.row.EnforceIngress = true
	p.row.Set = model.SetHash{}
	if len(entries) > 0 {
		p.row.Set = set.Hash
	}
	ok(p, p.dp.ApplyEndpoint(p.row))
}

// from is an entry about a peer: any protocol, any port.
func from(peer model.IdentityID, action model.Action, rule model.RuleID) model.PolicyEntry {
	precedence := uint32(1)
	if action == model.ActionDeny {
		precedence = 2
	}
	return model.PolicyEntry{Direction: model.Ingress, Peer: peer, Action: action, Precedence: precedence, Rule: rule}
}

func (p *pod) at(family int, port uint16) string {
	return netip.AddrPortFrom(p.addrs[family], port).String()
}

// serve answers on a port until the test ends.
func (p *pod) serve(port uint16) {
	p.Helper()
	e, err := sandbox.StartEcho(p.ns, "pod", port)
	ok(p, err)
	p.Cleanup(e.Close)
}
