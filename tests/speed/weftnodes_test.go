// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package speed

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/model"
)

// weftNode is a plain node with Weft's programs: on its pod's device, on its uplink,
// as masquerading asks for, and on the sockets of a group of processes. Its maps are
// written as the agent writes them.
type weftNode struct {
	*plainNode
	dp    *datapath.Datapath
	group string
}

const (
	podSlot   = 1 // place of a node's only pod
	farNumber = 1 // of the other node, at the tunnel's other end
)

func (n *plainNode) identity() model.IdentityID {
	return model.MinClusterIdentity + model.IdentityID(n.number)
}

// weftNodes are two nodes with Weft.
type weftNodes [2]*weftNode

// newWeftNodes gives both nodes Weft, with its tunnel if a port for that is given.
func newWeftNodes(tb testing.TB, plain plainNodes, tunnelPort uint16) (all weftNodes) {
	tb.Helper()
	for i, n := range plain {
		all[i] = newWeftNode(tb, n, tunnelPort)
	}
	return all
}

func newWeftNode(tb testing.TB, plain *plainNode, tunnelPort uint16) *weftNode {
	tb.Helper()
	mount, err := cgroup.FindMount()
	ok(tb, err)
	n := &weftNode{plainNode: plain, group: filepath.Join(mount, plain.host.Name)}
	ok(tb, os.Mkdir(n.group, 0o755))
	root := "/sys/fs/bpf/" + plain.host.Name
	n.dp, err = datapath.Open(datapath.Config{BPFFS: root, FlowEvents: true, Cgroup: n.group, TunnelPort: tunnelPort,
		Direct: []netip.Prefix{plain.pods()},
		Log:    slog.New(slog.DiscardHandler)})
	ok(tb, err)
	tb.Cleanup(func() {
		if err := errors.Join(n.dp.Close(), datapath.Cleanup(root), os.Remove(n.group)); err != nil {
			tb.Error(err)
		}
	})
	ok(tb, n.applyPolicy(tb))
	ok(tb, n.host.Do(func() error { return n.attach(tb) }))
	far := uint16(0)
	if tunnelPort != 0 {
		far = farNumber
		ok(tb, n.host.Do(func() error { return n.addTunnel(tunnelPort) }))
	}
	ok(tb, n.dp.ApplyIPs(n.addresses(far), nil))
	n.drain(tb)
	n.collect(tb)
	return n
}

// applyPolicy lets the client alone speak to the server, so that policy is asked.
func (n *weftNode) applyPolicy(tb testing.TB) error {
	tb.Helper()
	set := model.PolicySet{}
	if n.number == 2 {
		for _, port := range []uint16{echoPort, sinkPort} {
			set.Entries = append(set.Entries, model.PolicyEntry{Direction: model.Ingress, Peer: n.other().identity(), Protocol: model.ProtoTCP,
				Port: port, PortBits: 16, Action: model.ActionAllow})
		}
	}
	set.Hash = model.HashEntries(set.Entries)
	if err := n.dp.ApplyPolicySet(set); err != nil {
		return err
	}
	spec := n.spec()
	row := model.EndpointRow{Slot: podSlot, ID: podSlot, IfName: spec.HostIfName, Identity: n.identity(), Set: set.Hash, EnforceIngress: n.number == 2,
		MTU: uint16(spec.MTU), MAC: spec.MAC, HostMAC: spec.HostMAC, IPv4: spec.IPv4}
	ok(tb, n.host.Do(func() error {
		row.IfIndex = ifindex(tb, spec.HostIfName)
		return nil
	}))
	return n.dp.ApplyEndpoint(row)
}

// addresses are what the node knows of the cluster; the other node has that number if
// it is behind the tunnel.
func (n *weftNode) addresses(number uint16) []model.IPRow {
	far := n.other()
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	return []model.IPRow{
		{Prefix: host(n.podAddr()), Identity: n.identity(), Slot: podSlot},
		{Prefix: host(far.podAddr()), Identity: far.identity(), Node: number},
		{Prefix: host(n.addr()), Identity: model.IdentityHost},
		{Prefix: host(far.addr()), Identity: model.IdentityRemoteNode, Node: number},
		{Prefix: far.pods(), Identity: model.IdentityUnknown, Node: number},
		{Prefix: netip.MustParsePrefix("10.246.0.0/16"), Identity: model.IdentityUnknown},
	}
}

// attach puts the programs where they stay.
func (n *weftNode) attach(tb testing.TB) error {
	dev := n.spec().HostIfName
	if err := n.dp.Attach(context.Background(), ifindex(tb, dev), dev); err != nil {
		return err
	}
	for left := 1; left > 0; {
		var err error
		if left, err = n.dp.FinishAttach(); err != nil {
			return err
		}
	}
	return errors.Join(n.dp.SetHome([]netip.Addr{n.addr()}),
		n.dp.SetUplinks([]model.Uplink{{Name: "eth0", Index: ifindex(tb, "eth0"), IPv4: n.addr()}}))
}

// addTunnel makes the tunnel's device, with all that the programs have to know.
func (n *weftNode) addTunnel(port uint16) error {
	far := n.other()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "weft_vxlan", vxlanMTU
	dev := &netlink.Vxlan{LinkAttrs: attrs, FlowBased: true, Port: int(port)}
	if err := netlink.LinkAdd(dev); err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetARPOff(dev),
		n.dp.SetTunnel(model.TunnelDevice{Name: attrs.Name, Index: uint32(dev.Index), MTU: vxlanMTU}),
		n.dp.ApplyIdentities([]model.IdentityID{n.identity(), far.identity()}, nil),
		n.dp.ApplyNodes([]model.NodeRow{{IPv4: n.pods()}, {Number: farNumber, Outer: far.addr(), IPv4: far.pods()}}, nil),
		netlink.LinkSetUp(dev)); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: dev.Index, Dst: ipNet(far.pods()), Scope: unix.RT_SCOPE_LINK})
}

// drain reads the flows' events, and forgets them: two agents that name and keep them
// would share what CPUs there are with the traffic.
func (n *weftNode) drain(tb testing.TB) {
	tb.Helper()
	events, err := n.dp.Flows()
	ok(tb, err)
	ended := make(chan error, 1)
	go func() { // ends when the source is closed
		for {
			_, err := events.ReadFlow(time.Now().Add(50 * time.Millisecond)) // as often as the agent looks
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				ended <- err
				return
			}
		}
	}()
	tb.Cleanup(func() {
		ok(tb, events.Close())
		if err := <-ended; !errors.Is(err, os.ErrClosed) {
			tb.Error(err)
		}
	})
}

// collectEvery is as often as the agent does it.
const collectEvery = 2 * time.Second

// collect has ended flows go, as the agent does: else tables of the client's many
// connections would be full, and each new one cost an old one.
func (n *weftNode) collect(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { // ends with the benchmark
		tick := time.NewTicker(collectEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
			}
			if _, err := n.dp.CollectGarbage(); err != nil {
				ended <- err
				return
			}
		}
	}()
	tb.Cleanup(func() {
		cancel()
		ok(tb, <-ended)
	})
}

// pair is a client on the first node, under Weft's hooks, and a server on the second.
func (all weftNodes) pair() *pair {
	return plainNodes{all[0].plainNode, all[1].plainNode}.pair(all[0].group)
}

func (all weftNodes) carried(tb testing.TB) {
	tb.Helper()
	for _, n := range all {
		n.carried(tb)
	}
}

// carried tells that traffic went by Weft's programs, in both directions, and that
// policy refused none of it.
func (n *weftNode) carried(tb testing.TB) {
	tb.Helper()
	counters, err := n.dp.Counters()
	ok(tb, err)
	for _, c := range counters {
		switch reason := model.Reason(c.Reason); {
		case reason == model.ReasonPassed && c.Packets < 1000:
			tb.Errorf("node %d: only %d packets passed in direction %d", n.number, c.Packets, c.Direction)
		case (reason == model.ReasonPolicyDeny || reason == model.ReasonPolicyDefault) && c.Packets > 0:
			tb.Errorf("node %d: policy refused %d packets", n.number, c.Packets)
		}
	}
}
