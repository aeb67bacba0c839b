// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// tunnelWorld is a tunnel in a network of its own, and what its programs were told.
type tunnelWorld struct {
	*testing.T
	*Tunnel
	nodes    []model.ClusterNode
	known    bool
	attached []model.TunnelDevice
	fail     error
	turns    int // how often readiness was told to have changed
}

func newTunnelWorld(t *testing.T, cfg TunnelConfig) *tunnelWorld {
	t.Helper()
	w := &tunnelWorld{T: t, known: true}
	w.again(cfg)
	return w
}

// again is what a restart of the agent is.
func (w *tunnelWorld) again(cfg TunnelConfig) {
	cfg.Self, cfg.Log = "here", slog.New(slog.DiscardHandler)
	cfg.Nodes = func() ([]model.ClusterNode, bool, <-chan struct{}) { return w.nodes, w.known, nil }
	cfg.ReadyChanged = func() { w.turns++ }
	cfg.Attach = func(d model.TunnelDevice) error {
		if link := w.device(); w.fail == nil && link.Attrs().Index != int(d.Index) {
			w.Errorf("attached to %d, the device is %d", d.Index, link.Attrs().Index)
		}
		if up := w.device().Attrs().Flags&net.FlagUp != 0; up && len(w.attached) == 0 {
			w.Error("the device is up before its programs are there")
		}
		w.attached = append(w.attached, d)
		return w.fail
	}
	w.Tunnel = NewTunnel(cfg)
}

func (w *tunnelWorld) device() netlink.Link {
	w.Helper()
	link, err := netlink.LinkByName(TunnelDeviceName)
	if err != nil {
		w.Fatal(err)
	}
	return link
}

// look refreshes and compares the MTU, the routes and the faults.
func (w *tunnelWorld) look(mtu int, faults []string, routes ...string) {
	w.Helper()
	if err := w.Refresh(); err != nil {
		w.Fatal(err)
	}
	if w.MTU() != uint16(mtu) || w.device().Attrs().MTU != mtu {
		w.Errorf("MTU %d, of the device %d, want %d", w.MTU(), w.device().Attrs().MTU, mtu)
	}
	if got := byDevice(w.T); !slices.Equal(got, routes) {
		w.Errorf("routes %q, want %q", got, routes)
	}
	got := w.Faults()
	if len(got) != len(faults) {
		w.Errorf("faults %q, want %q", got, faults)
		return
	}
	for i, f := range faults {
		if !strings.Contains(got[i], f) {
			w.Errorf("fault %q, want %q", got[i], f)
		}
	}
}

func byDevice(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: nodeRouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s by %s from %s", r.Dst, link.Attrs().Name, r.Src))
		}
	}
	slices.Sort(out)
	return out
}

func here() model.ClusterNode {
	return clusterNode("here", "192.0.2.1", "2001:db8::1", "10.244.1.0/24", "fd00:1::/64")
}

func TestTunnelFollowsTheNodes(t *testing.T) {
	inNamespace(t)
	if err := netlink.LinkSetMTU(mustLink(t, "eth0"), 1500); err != nil {
		t.Fatal(err)
	}
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	w.known = false
	w.look(1450, nil)
	if err := w.Ready(); err == nil || w.turns != 0 {
		t.Errorf("ready before nodes are known, told %d times", w.turns)
	}
	first := w.device().Attrs()
	if v, ok := w.device().(*netlink.Vxlan); !ok || !v.FlowBased || v.Learning || v.Port != 4789 || first.Flags&net.FlagUp == 0 || first.RawFlags&unix.IFF_NOARP == 0 {
		t.Errorf("the device is %+v", w.device())
	}
	if devices, _ := w.Underlay(); len(devices) > 0 {
		t.Errorf("without nodes there is an underlay: %v", devices)
	}
	_, moved := w.Underlay()

	w.known, w.nodes = true, []model.ClusterNode{here(), clusterNode("far", "2001:db8::2", "192.0.2.2", "10.244.2.0/24", "fd00:2::/64"),
		clusterNode("beyond", "198.51.100.7", "10.244.3.0/24")}
	all := []string{"10.244.2.0/24 by weft_vxlan from 192.0.2.1", "10.244.3.0/24 by weft_vxlan from 192.0.2.1", "fd00:2::/64 by weft_vxlan from 2001:db8::1"}
	w.look(1450, nil, all...)
	if err := w.Ready(); err != nil || w.turns != 1 {
		t.Errorf("%v, told %d times", err, w.turns)
	}
	select {
	case <-moved:
	default:
		t.Error("that there is an underlay is not told")
	}
	if devices, _ := w.Underlay(); !slices.Equal(devices, []int{mustLink(t, "eth0").Attrs().Index}) {
		t.Errorf("underlay %v", devices)
	}
	if text := w.Describe(); text != "vxlan, UDP port 4789, MTU 1450, to 2 other nodes" {
		t.Errorf("described as %q", text)
	}

	told := len(w.attached)
	w.Tunnel = nil
	w.again(TunnelConfig{Port: 4789})
	w.known, w.nodes = false, nil
	w.look(1450, nil, all...) // an agent that does not know leaves them
	if now := w.device().Attrs(); now.Index != first.Index || len(w.attached) != told+1 {
		t.Errorf("device %d, was %d; told %v", now.Index, first.Index, w.attached)
	}
	w.known, w.nodes = true, []model.ClusterNode{here(), clusterNode("far", "192.0.2.2", "10.244.2.0/24")}
	w.look(1450, nil, all[0])
	if err := netlink.LinkDel(w.device()); err != nil {
		t.Fatal(err)
	}
	w.look(1450, nil, all[0]) // it is made anew
	if got := w.attached[len(w.attached)-1]; got.Index == uint32(first.Index) || int(got.Index) != w.device().Attrs().Index {
		t.Errorf("told %+v", got)
	}
	w.nodes = nil
	w.look(1450, nil)
}

func mustLink(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestTunnelFollowsTheMTU(t *testing.T) {
	inNamespace(t)
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	w.nodes = []model.ClusterNode{here(), clusterNode("far", "192.0.2.2", "10.244.2.0/24")}
	route := "10.244.2.0/24 by weft_vxlan from 192.0.2.1"
	set := func(mtu int) {
		t.Helper()
		if err := netlink.LinkSetMTU(mustLink(t, "eth0"), mtu); err != nil {
			t.Fatal(err)
		}
	}
	set(9000)
	w.look(8950, nil, route)
	set(1400)
	w.look(1350, nil, route)
	if got := w.attached[len(w.attached)-1].MTU; got != 1350 {
		t.Errorf("the kernel was told %d", got)
	}
	set(1300)
	w.look(1250, []string{"IPv6 asks for 1280: the devices between nodes need an MTU of at least 1330"}, route)
	w.nodes = []model.ClusterNode{clusterNode("here", "2001:db8::1", "10.244.1.0/24"), clusterNode("far", "2001:db8::2", "10.244.2.0/24")}
	set(1500)
	w.look(1430, nil, "10.244.2.0/24 by weft_vxlan from <nil>")

	w.again(TunnelConfig{Port: 4789, MTU: 1450})
	w.look(1450, []string{"packets of 1450 bytes (mtu) and the 70 that the tunnel adds are larger than eth0 lets pass (1500)"}, "10.244.2.0/24 by weft_vxlan from <nil>")
}

func TestFaultsOfATunnelAreTold(t *testing.T) {
	inNamespace(t)
	other := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, FlowBased: true, Port: 4789}
	if err := netlink.LinkAdd(other); err != nil {
		t.Fatal(err)
	}
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	w.nodes = []model.ClusterNode{here(), clusterNode("far", "192.0.2.2", "10.244.2.0/24")}
	if err := w.Refresh(); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(); err == nil {
		t.Error("ready without a device")
	}
	if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0], "another device is for VXLAN at UDP port 4789") {
		t.Errorf("faults %q", f)
	}
	if err := netlink.LinkDel(other); err != nil {
		t.Fatal(err)
	}
	taken, err := net.ListenPacket("udp", ":4789")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Refresh(); err != nil {
		t.Fatal(err)
	}
	if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0], "UDP port 4789 is in use") {
		t.Errorf("faults %q", f)
	}
	taken.Close()
	mtu := mustLink(t, "eth0").Attrs().MTU - 50
	route := "10.244.2.0/24 by weft_vxlan from 192.0.2.1"
	w.fail = errors.New("no program")
	w.attached, w.last = nil, model.TunnelDevice{}
	if err := w.Refresh(); err != nil || len(w.Faults()) != 1 || !strings.Contains(w.Faults()[0], "no program") || w.device().Attrs().Flags&net.FlagUp != 0 {
		t.Errorf("%v, faults %q, the device is %s", err, w.Faults(), w.device().Attrs().Flags)
	}
	w.fail = nil
	w.look(mtu, nil, route)

	w.nodes = []model.ClusterNode{here(), clusterNode("far", "192.0.2.2", "10.244.2.0/24"), clusterNode("foe", "10.244.2.9", "10.244.9.0/24"),
		clusterNode("me", "192.0.2.1", "10.244.8.0/24"), clusterNode("wrong", "192.0.2.5", "192.0.2.0/24"), clusterNode("over", "192.0.2.6", "10.244.1.128/25")}
	w.look(mtu, []string{"node me cannot be reached: its address 192.0.2.1 is this node's",
		"the way to other nodes leads by the tunnel itself", "overlaps 10.244.1.0/24", "192.0.2.0/24 of node wrong cannot be reached: the range contains 192.0.2.1"},
		route, "10.244.9.0/24 by weft_vxlan from 192.0.2.1")
	w.nodes = []model.ClusterNode{clusterNode("here", "192.0.2.77", "10.244.1.0/24"), clusterNode("far", "192.0.2.2", "10.244.2.0/24")}
	w.look(mtu, []string{"other nodes know this one by its address 192.0.2.77 and drop what comes from 192.0.2.1"}, "10.244.2.0/24 by weft_vxlan from <nil>")
}

func TestDeviceOfAnotherPortIsMadeAnew(t *testing.T) {
	inNamespace(t)
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	w.look(mustLink(t, "eth0").Attrs().MTU-50, nil)
	w.attached = nil
	w.again(TunnelConfig{Port: 8472})
	w.look(mustLink(t, "eth0").Attrs().MTU-50, nil)
	if v := w.device().(*netlink.Vxlan); v.Port != 8472 {
		t.Errorf("port %d", v.Port)
	}
}

func TestTunnelIsTurnedOff(t *testing.T) {
	inNamespace(t)
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	w.nodes = []model.ClusterNode{here(), clusterNode("far", "192.0.2.2", "10.244.2.0/24")}
	w.look(mustLink(t, "eth0").Attrs().MTU-50, nil, "10.244.2.0/24 by weft_vxlan from 192.0.2.1")
	for _, want := range []bool{true, false} {
		if were, err := RemoveTunnel(); err != nil || were != want {
			t.Errorf("%v, %v", were, err)
		}
	}
	if link, err := findTunnel(); link != nil || err != nil {
		t.Errorf("%v, %v", link, err)
	}
	r := NewNodeRoutes("here", w.cfg.Nodes, slog.New(slog.DiscardHandler))
	if err := r.refresh(); err != nil {
		t.Fatal(err)
	}
	if got := ours(t); !slices.Equal(got, []string{"10.244.2.0/24 via 192.0.2.2"}) {
		t.Errorf("native routes %q, faults %q", got, r.Faults())
	}
	w.attached = nil
	w.again(TunnelConfig{Port: 4789})
	w.look(mustLink(t, "eth0").Attrs().MTU-50, nil, "10.244.2.0/24 by weft_vxlan from 192.0.2.1") // and on again
}

// Packets from hosts reach this one by another device than they come by.
func TestTunnelDeviceTakesSourcesOfOtherDevices(t *testing.T) {
	inNamespace(t)
	w := newTunnelWorld(t, TunnelConfig{Port: 4789})
	for all, want := range map[string]string{"0": "0", "1": "2", "2": "0"} {
		if err := sysctl("ipv4/conf/all/rp_filter", all); err != nil {
			t.Fatal(err)
		}
		if err := w.Refresh(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + TunnelDeviceName + "/rp_filter")
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("all %s: %s, %v, want %s", all, got, err, want)
		}
	}
}
