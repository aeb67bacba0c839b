// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

var withTunnel = Config{Attach: AttachTCX, TunnelPort: 4789}

func someNodes() []model.NodeRow {
	return []model.NodeRow{
		{IPv4: netip.MustParsePrefix("10.0.0.0/24"), IPv6: netip.MustParsePrefix("fd00::/64")},
		{Number: 1, Outer: netip.MustParseAddr("192.0.2.1"), IPv4: netip.MustParsePrefix("10.0.1.0/24")},
		{Number: 7, Outer: netip.MustParseAddr("2001:db8::7"), IPv4: netip.MustParsePrefix("10.7.0.0/17"), IPv6: netip.MustParsePrefix("fd00:7::/61")},
		{Number: model.MaxNodeNumber, Outer: netip.MustParseAddr("192.0.2.255")},
	}
}

// hasNodes compares what the kernel knows of nodes.
func hasNodes(t *testing.T, d *Datapath, want []model.NodeRow, ends int) {
	t.Helper()
	if have, err := d.Nodes(); err != nil || !slices.Equal(have, want) {
		t.Errorf("the kernel has nodes %+v, %v, want %+v", have, err, want)
	}
	found := 0
	must(t, dump(d.maps.WeftOuter, func(weftbpf.BpfWeftOuterKey, uint32) error { found++; return nil }))
	if found != ends {
		t.Errorf("%d ends of the tunnel, want %d", found, ends)
	}
}

func TestNodesAreReadBack(t *testing.T) {
	d := open(t, withTunnel)
	nodes := someNodes()
	must(t, errors.Join(d.ApplyNodes(nodes, nil), d.ApplyNodes(nodes, []uint16{5, 6})))
	hasNodes(t, d, nodes, 3)
	// The end of one passes to another; nothing of that node stays behind.
	nodes[1].Outer, nodes[2].Outer = netip.MustParseAddr("192.0.2.9"), nodes[1].Outer
	must(t, d.ApplyNodes([]model.NodeRow{nodes[2], nodes[1]}, nil))
	hasNodes(t, d, nodes, 3)
	must(t, d.ApplyNodes(nil, []uint16{7, 7}))
	hasNodes(t, d, []model.NodeRow{nodes[0], nodes[1], nodes[3]}, 2)
	if err := d.ApplyNodes([]model.NodeRow{{Number: model.MaxNodeNumber + 1, Outer: netip.MustParseAddr("192.0.2.3")}}, nil); err == nil {
		t.Error("a number that is too high is taken")
	}
	// What somebody else took away is seen, so that it is written again.
	must(t, d.maps.WeftOuter.Delete(weftbpf.BpfWeftOuterKey{Addr: encodeNode(nodes[1]).Outer}))
	lost := nodes[1]
	lost.Outer = netip.Addr{}
	hasNodes(t, d, []model.NodeRow{nodes[0], lost, nodes[3]}, 1)
}

func TestIdentitiesThatSetsKnow(t *testing.T) {
	d := open(t, withTunnel)
	must(t, d.ApplyIdentities([]model.IdentityID{300, 256, 300}, []model.IdentityID{999}))
	must(t, d.ApplyIdentities([]model.IdentityID{400}, []model.IdentityID{256, 256}))
	if ids, err := d.Identities(); err != nil || !slices.Equal(ids, []model.IdentityID{300, 400}) {
		t.Errorf("the kernel knows %v, %v", ids, err)
	}
}

func TestAddressesNameTheirNode(t *testing.T) {
	d := open(t, withTunnel)
	rows := []model.IPRow{
		{Prefix: netip.MustParsePrefix("10.0.1.0/24"), Identity: model.IdentityUnknown, Node: 1},
		{Prefix: netip.MustParsePrefix("fd00:7::1/128"), Identity: 300, Node: 7},
	}
	must(t, d.ApplyIPs(rows, nil))
	if have, err := d.IPs(); err != nil || !slices.Equal(have, rows) {
		t.Errorf("the kernel has %v, %v", have, err)
	}
	// Another node for the same identity: its flows take another way.
	key, row := ct4(4000, 1)
	row.Ct.Flags = 0
	must(t, d.maps.WeftCt4.Put(key, row))
	must(t, d.ApplyIPs([]model.IPRow{{Prefix: netip.PrefixFrom(addr4(key.Addr[0]), 32), Identity: model.IdentityWorldIPv4, Node: 7}}, nil))
	if !staleFlows(t, d, []weftbpf.BpfWeftCt4Key{key})[0] {
		t.Error("a flow whose address moved to another node was not marked")
	}
}

func TestDeviceOfTheTunnel(t *testing.T) {
	for _, mode := range []AttachMode{AttachTCX, AttachClsact} {
		t.Run(mode.String(), func(t *testing.T) {
			cfg := Config{Attach: mode, TunnelPort: 4789}
			d := open(t, cfg)
			first, second := veth(t, "tuna"), veth(t, "tunb")
			a, b := model.TunnelDevice{Name: "tuna", Index: first, MTU: 1450}, model.TunnelDevice{Name: "tunb", Index: second, MTU: 1400}
			must(t, errors.Join(d.SetTunnel(a), d.SetTunnel(a)))
			hasTunnel(t, d, a, 2, first)
			must(t, d.Close())
			d = reopen(t, cfg)
			hasTunnel(t, d, a, 2, first)
			must(t, d.SetTunnel(b))
			hasTunnel(t, d, b, 2, second)
			hasTunnel(t, d, b, 0, first)
			must(t, errors.Join(d.SetTunnel(model.TunnelDevice{}), d.SetTunnel(model.TunnelDevice{})))
			hasTunnel(t, d, model.TunnelDevice{}, 0, second)
			must(t, d.SetTunnel(a))
			dev, err := netlink.LinkByName("tuna")
			must(t, err)
			must(t, netlink.LinkDel(dev))
			must(t, d.SetTunnel(b)) // the pins of one that is gone go as well
			if names, err := d.attacher.attached(atTunnel); err != nil || !slices.Equal(names, []string{"tunb"}) {
				t.Errorf("attached are %v, %v", names, err)
			}
			must(t, d.Close())
			must(t, Cleanup(testRoot))
			if progs := attached(t, second); len(progs) != 0 {
				t.Errorf("after the clean-up the device has %v", progs)
			}
			if _, err := os.Stat(testRoot); !os.IsNotExist(err) {
				t.Errorf("after the clean-up: %v", err)
			}
		})
	}
}

// hasTunnel compares the device and how many programs a device has.
func hasTunnel(t *testing.T, d *Datapath, want model.TunnelDevice, programs int, ifindex uint32) {
	t.Helper()
	want.Name = ""
	if have, err := d.Tunnel(); err != nil || have != want {
		t.Errorf("the tunnel is %+v, %v, want %+v", have, err, want)
	}
	if progs := attached(t, ifindex); len(progs) != programs {
		t.Errorf("device %d has %v, want %d programs", ifindex, progs, programs)
	}
}

// The maps of the tunnel take no memory without one, and what they held is gone when
// there is one again.
func TestTheTunnelComesAndGoes(t *testing.T) {
	d := open(t, withTunnel)
	nodes := someNodes()
	must(t, errors.Join(d.ApplyNodes(nodes, nil), d.ApplyIdentities([]model.IdentityID{300}, nil)))
	must(t, d.Close())
	d = reopen(t, withTunnel)
	hasNodes(t, d, nodes, 3)
	for range 2 {
		must(t, d.Close())
		d = reopen(t, Config{Attach: AttachTCX})
		hasNodes(t, d, nil, 0)
		for name, m := range map[string]interface{ MaxEntries() uint32 }{"weft_node": d.maps.WeftNode,
			"weft_outer": d.maps.WeftOuter, "weft_known": d.maps.WeftKnown} {
			if m.MaxEntries() != 1 {
				t.Errorf("%s has %d places", name, m.MaxEntries())
			}
		}
		must(t, errors.Join(d.SetTunnel(model.TunnelDevice{}), d.ApplyNodes(nil, nil), d.ApplyIdentities(nil, nil)))
		for _, err := range []error{d.ApplyNodes(nodes, nil), d.ApplyIdentities([]model.IdentityID{300}, nil),
			d.SetTunnel(model.TunnelDevice{Name: "x", Index: 1})} {
			if !errors.Is(err, errNoTunnel) {
				t.Errorf("without a tunnel: %v", err)
			}
		}
	}
	must(t, d.Close())
	d = reopen(t, withTunnel)
	hasNodes(t, d, nil, 0)
	if ids, err := d.Identities(); err != nil || len(ids) != 0 {
		t.Errorf("the kernel knows %v, %v", ids, err)
	}
	must(t, d.ApplyNodes(nodes, nil))
	hasNodes(t, d, nodes, 3)
}

// Programs of another release may know fewer reasons.
func TestCountersOfFewerReasonsGiveWay(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	must(t, d.Close())
	spec, err := weftbpf.LoadBpf()
	must(t, err)
	path := d.pins.mapPath("weft_metrics", 2)
	must(t, os.Remove(path))
	small := spec.Maps["weft_metrics"].Copy()
	small.MaxEntries = 42
	m, err := newMapPinned(small, path)
	must(t, err)
	must(t, m.Close())
	d = reopen(t, Config{Attach: AttachTCX})
	counters, err := d.Counters()
	must(t, err)
	if len(counters) != 2*len(model.ReasonTexts()) {
		t.Errorf("%d counters for %d reasons", len(counters), len(model.ReasonTexts()))
	}
}

func newMapPinned(spec *ebpf.MapSpec, path string) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, err
	}
	return m, m.Pin(path)
}
