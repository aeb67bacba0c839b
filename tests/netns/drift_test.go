// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/identity"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/tests/sandbox"
)

const driftDevice = "wf00000000d0"

// TestDriftIsMended changes the kernel behind the engine's back, on the real
// datapath: the next comparison finds it and puts it right.
func TestDriftIsMended(t *testing.T) {
	var drift atomic.Int64
	startEngine(t, &drift)
	want := kernelState(t)
	for name, damage := range map[string]func(t *testing.T){
		"an address is deleted": func(t *testing.T) {
			m := pinned(t, "weft_ip4_v1")
			defer m.Close()
			ok(t, m.Delete(weftbpf.BpfWeftIp4Key{Prefixlen: 32, Addr: wire4("10.244.0.9")}))
		},
		"an address is added": func(t *testing.T) {
			m := pinned(t, "weft_ip4_v1")
			defer m.Close()
			ok(t, m.Put(weftbpf.BpfWeftIp4Key{Prefixlen: 32, Addr: wire4("203.0.113.1")}, weftbpf.BpfWeftIp{Identity: 1}))
		},
		"an endpoint's row is emptied": func(t *testing.T) {
			m := pinned(t, "weft_ep_v1")
			defer m.Close()
			ok(t, m.Put(uint32(9), weftbpf.BpfWeftEpRow{}))
		},
		"a device points nowhere": func(t *testing.T) {
			device, err := netlink.LinkByName(driftDevice)
			ok(t, err)
			m := pinned(t, "weft_if_v1")
			defer m.Close()
			ok(t, m.Put(uint32(device.Attrs().Index), uint32(0)))
		},
		"a policy set is deleted": func(t *testing.T) {
			m := pinned(t, "weft_polsets_v1")
			defer m.Close()
			each(t, "weft_polsets_v1", func(place uint32, _ ebpf.MapID) { ok(t, m.Delete(place)) })
		},
		"a policy set is changed": func(t *testing.T) {
			each(t, "weft_polsets_v1", func(_ uint32, id ebpf.MapID) {
				inner, err := ebpf.NewMapFromID(id)
				ok(t, err)
				defer inner.Close()
				ok(t, inner.Put(weftbpf.BpfWeftPolKey{Prefixlen: 40, Identity: 7, Dir: 1}, weftbpf.BpfWeftPol{Action: 1}))
			})
		},
		"a link is cut": func(t *testing.T) {
			l, err := link.LoadPinnedLink(filepath.Join(pinRoot, "links", driftDevice+"_in"), nil)
			ok(t, err)
			defer l.Close()
			ok(t, l.Detach())
		},
	} {
		t.Run(name, func(t *testing.T) {
			damage(t)
			mended(t, want)
		})
	}
	// Not every one is counted: each comparison is followed by a look at links,
	// which also puts right what was changed in between.
	if drift.Load() == 0 {
		t.Error("no drift was counted")
	}
}

// TestComparisonBetweenDeviceAndEndpoint: a comparison that falls between the end
// of a device and that of its endpoint forgets neither the row nor the pins.
func TestComparisonBetweenDeviceAndEndpoint(t *testing.T) {
	var drift atomic.Int64
	tables := startEngine(t, &drift)
	device, err := netlink.LinkByName(driftDevice)
	ok(t, err)
	ok(t, netlink.LinkDel(device))
	ok(t, sandbox.Eventually(t.Context(), soon, "a comparison", func() error {
		if drift.Load() == 0 {
			return errors.New("no drift")
		}
		return nil
	}))
	_, err = tables.DeleteEndpoint(9)
	ok(t, err)
	ok(t, sandbox.Eventually(t.Context(), soon, "nothing of the endpoint", func() error {
		for _, l := range kernelState(t) {
			if strings.HasPrefix(l, "link") || strings.HasPrefix(l, "endpoint") || strings.HasPrefix(l, "ring") {
				return errors.New(l)
			}
		}
		return nil
	}))
}

// mended waits until the kernel holds what it should.
func mended(t *testing.T, want []string) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for {
		got := kernelState(t)
		if missing(got, want) == nil && missing(want, got) == nil {
			return
		}
		if time.Now().After(deadline) {
			sameState(t, "after the comparison", got, want)
			return
		}
	}
}

// startEngine runs an engine with one isolated endpoint until the test ends.
func startEngine(t *testing.T, drift *atomic.Int64) *state.Tables {
	t.Helper()
	ok(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: driftDevice}, PeerName: "drift"}))
	t.Cleanup(func() {
		if device, err := netlink.LinkByName(driftDevice); err == nil {
			ok(t, netlink.LinkDel(device))
		}
		ok(t, datapath.Cleanup(pinRoot))
	})
	device, err := netlink.LinkByName(driftDevice)
	ok(t, err)
	dp, err := datapath.Open(datapath.Config{BPFFS: pinRoot})
	ok(t, err)
	t.Cleanup(func() { ok(t, dp.Close()) })
	tables, err := state.New()
	ok(t, err)
	node := engine.Node{Cluster: "default", Filter: identity.DefaultFilter()}
	e := engine.New(engine.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Node: node, Tables: tables, Datapath: dp,
		Errors: func(string, int) {}, Drift: func(_ string, n int) { drift.Add(int64(n)) }, CompareEvery: 50 * time.Millisecond})
	fillTables(t, node, tables, uint32(device.Attrs().Index))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }() // ends with ctx
	t.Cleanup(func() { cancel(); ok(t, <-ended) })
	wait, done := context.WithTimeout(t.Context(), soon)
	defer done()
	ok(t, e.Realized().WaitRevision(wait, tables.Revision()))
	return tables
}

func fillTables(t *testing.T, node engine.Node, tables *state.Tables, ifindex uint32) {
	t.Helper()
	key := model.PodKey{Namespace: "demo", Name: "pod"}
	_, err := tables.ReplaceSource(state.Source{
		Pods: []model.Pod{{PodKey: key, ServiceAccount: "default"}},
		Policies: []model.Policy{{
			Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "p"}, Isolate: [2]bool{true, true},
			Rules: []model.Rule{{Action: model.ActionAllow, Name: "egress[0]", Peers: []model.Peer{{CIDR: netip.MustParsePrefix("192.0.2.0/24")}}}},
		}},
	})
	ok(t, err)
	snap, _ := tables.Snapshot()
	_, err = tables.ReplaceIdentities([]model.Identity{{ID: model.MinClusterIdentity, Labels: engine.LabelsOf(node, snap)(snap.Pods[0])}})
	ok(t, err)
	_, err = tables.UpsertEndpoint(model.Endpoint{ID: 9, Slot: 9, Pod: key, ContainerID: "c9", IfName: "eth0",
		HostIfName: driftDevice, HostIfIndex: ifindex, IPv4: netip.MustParseAddr("10.244.0.9"),
		IPv6: netip.MustParseAddr("fd00:10:244::9"), MTU: 1500, State: model.EndpointReady})
	ok(t, err)
}

// wire4 is an IPv4 address as the kernel's maps hold it.
func wire4(s string) uint32 {
	b := netip.MustParseAddr(s).As4()
	return binary.NativeEndian.Uint32(b[:])
}
