// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

// testRoot is the directory of pins in the sandbox's own bpffs.
const testRoot = "/sys/fs/bpf/weft"

// open opens a datapath that leaves nothing behind for the next test.
func open(t *testing.T, cfg Config) *Datapath {
	t.Helper()
	if cfg.Attach == AttachTCX && errors.Is(haveTCX(), ebpf.ErrNotSupported) {
		t.Skip("kernel: tcx (6.6)")
	}
	t.Cleanup(func() {
		if err := Cleanup(testRoot); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return reopen(t, cfg)
}

// reopen opens a datapath as a restarted agent would.
func reopen(t *testing.T, cfg Config) *Datapath {
	t.Helper()
	cfg.BPFFS = testRoot
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// must stops the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits up to a minute for a condition: grace periods are long on a busy machine.
func eventually(t *testing.T, ok func() bool) bool {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if ok() {
			return true
		}
	}
	return false
}

// veth makes a pair of devices and tells the index of the first.
func veth(t *testing.T, name string) uint32 {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}))
	dev, err := netlink.LinkByName(name)
	must(t, err)
	t.Cleanup(func() { _ = netlink.LinkDel(dev) })
	return uint32(dev.Attrs().Index)
}

// policySet is a set with one entry, told apart by its port.
func policySet(port uint16) model.PolicySet {
	entries := []model.PolicyEntry{{
		Direction: model.Ingress, Peer: 300, Protocol: model.ProtoTCP, Port: port, PortBits: 16,
		Action: model.ActionAllow, Rule: 1,
	}}
	return model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
}

func endpointRow(slot uint16, ifindex uint32, ifname string) model.EndpointRow {
	return model.EndpointRow{
		Slot: slot, ID: 1000 + uint32(slot), IfIndex: ifindex, IfName: ifname, Identity: 256,
		EnforceIngress: true, MTU: 1500,
		MAC: model.MAC{2, 0, 0, 0, 0, byte(slot)}, HostMAC: model.MAC{2, 0, 0, 1, 0, byte(slot)},
		IPv4: netip.AddrFrom4([4]byte{10, 0, 0, byte(slot)}),
		IPv6: netip.AddrFrom16([16]byte{0xfd, 15: byte(slot)}),
	}
}
