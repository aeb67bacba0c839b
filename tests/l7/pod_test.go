// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
	"github.com/weftmesh/weft/tests/sandbox"
)

// pod is a network namespace behind a device of a node's.
type pod struct {
	*node
	ns    *sandbox.NS
	addrs [2]netip.Addr
	row   model.EndpointRow
}

// pod makes a pod that all nodes know.
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
	p.row = model.EndpointRow{
		Slot: slot, ID: 100 + uint32(slot), Identity: identity, IfName: fmt.Sprintf("wf%012x", slot), MTU: uint16(n.mtu()),
		MAC: model.MAC{2, 0, byte(n.n), 0, 1, byte(slot)}, HostMAC: model.MAC{2, 0, byte(n.n), 0, 2, byte(slot)},
		IPv4: p.addrs[0], IPv6: p.addrs[1],
	}
	within(n.T, n.ns, p.connect)
	for _, other := range n.cluster.nodes {
		if other != n {
			ok(n, other.knows(p, 0))
		}
	}
	return p
}

// connect wires the pod, and tells its own node of it.
func (p *pod) connect() error {
	spec := podnet.Spec{IfName: "eth0", HostIfName: p.row.IfName, MAC: p.row.MAC, HostMAC: p.row.HostMAC,
		MTU: int(p.row.MTU), IPv4: p.row.IPv4, IPv6: p.row.IPv6}
	index, err := podnet.Create(p.ns.Path, spec)
	if err != nil {
		return err
	}
	p.row.IfIndex = index
	if err := podnet.EnsureHost(spec); err != nil {
		return err
	}
	if err := podnet.SetUpPod(p.ns.Path, spec); err != nil {
		return err
	}
	if err := p.dp.ApplyEndpoint(p.row); err != nil {
		return err
	}
	if p.cluster.tunnel {
		if err := p.dp.ApplyIdentities([]model.IdentityID{p.row.Identity}, nil); err != nil {
			return err
		}
	}
	if err := p.knows(p, p.row.Slot); err != nil {
		return err
	}
	return p.dp.Attach(p.Context(), p.row.IfIndex, p.row.IfName)
}

// knows tells a node who has the pod's addresses.
func (n *node) knows(p *pod, slot uint16) error {
	if n.cluster.tunnel {
		if err := n.dp.ApplyIdentities([]model.IdentityID{p.row.Identity}, nil); err != nil {
			return err
		}
	}
	var rows []model.IPRow
	for _, addr := range p.addrs {
		row := model.IPRow{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Identity: p.row.Identity, Slot: slot}
		if slot == 0 && n.cluster.tunnel {
			row.Node = uint16(p.n)
		}
		rows = append(rows, row)
	}
	return n.dp.ApplyIPs(rows, nil)
}

// policy gives the pod these entries, and no others.
func (p *pod) policy(entries ...model.PolicyEntry) {
	p.Helper()
	model.SortEntries(entries)
	set := model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
	ok(p, p.dp.ApplyPolicySet(set))
	p.row.Set = model.SetHash{}
	if len(entries) > 0 {
		p.row.Set = set.Hash
	}
	ok(p, p.dp.ApplyEndpoint(p.row))
}

// rule allows a peer to call port 80, or a pod to call it there, by a ruleset.
func rule(dir model.Direction, peer model.IdentityID, ruleset model.RulesetID) model.PolicyEntry {
	return model.PolicyEntry{Direction: dir, Peer: peer, Protocol: model.ProtoTCP, Port: 80, PortBits: 16,
		Action: model.ActionAllow, Precedence: 1, Rule: 1, Ruleset: ruleset}
}

func (p *pod) at(family int, port uint16) string {
	return netip.AddrPortFrom(p.addrs[family], port).String()
}
