// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/sandbox"
)

// becomes waits until the remote sees the asker under an address.
func (n *node) becomes(when string, from *sandbox.NS, to, want netip.Addr) {
	n.t.Helper()
	if err := sandbox.Eventually(n.ctx, soon, "another source "+when, func() error {
		conn, err := from.Dial("udp", hostPort(to, 8080), answer)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		me, err := whoAmI(conn)
		if err != nil || me.Addr() != want {
			return fmt.Errorf("seen as %v: %w", me, errors.Join(errors.New("not so"), err))
		}
		return nil
	}); err != nil {
		n.t.Error(err)
	}
}

// Without settings, IPv4 leaves by the default route's device under the node's
// address, also if the route comes later, and IPv6 as the pod.
func TestDefaultsOfTheWayOut(t *testing.T) {
	n := startNode(t)
	client := n.pod("client")
	startMirror(t, n.world, 8080)
	onBoth(t, func(t *testing.T, family int) {
		n.becomes("without a default route", client.NS, worldAddrs()[family], addrs(client)[family])
	})
	kept, err := client.NS.Dial("tcp", hostPort(worldAddrs()[0], 8080), answer)
	ok(t, err)
	defer kept.Close()
	n.lead(t)
	n.becomes("with a default route", client.NS, worldAddrs()[0], hostAddrs()[0])
	n.becomes("with masquerade off", client.NS, worldAddrs()[1], addrs(client)[1])
	if me, err := whoAmI(kept); err != nil || me.Addr() != client.IPv4 {
		t.Errorf("a connection of before is seen as %s, %v", me, err)
	}
}

// The uplink's address changes: new flows leave under the new one, and so do those
// of UDP that were open.
func TestUplinkGetsAnotherAddress(t *testing.T) {
	o := startOut(t, "conntrack: {tcpClosingTimeout: 1s}")
	client := o.pod("client")
	startMirror(t, o.world, 8080)
	old := hostAddrs()
	next := []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")}
	flows := make([]net.Conn, 2)
	for family := range 2 {
		var err error
		flows[family], err = client.NS.Dial("udp", hostPort(worldAddrs()[family], 8080), answer)
		ok(t, err)
		defer flows[family].Close()
		me, err := whoAmI(flows[family])
		ok(t, err)
		if me.Addr() != old[family] {
			t.Errorf("at first seen as %s", me)
		}
	}
	up, err := netlink.LinkByName(uplinkDevice)
	ok(t, err)
	for family, bits := range []int{24, 64} {
		addr, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", old[family], bits))
		ok(t, err)
		ok(t, netlink.AddrDel(up, addr))
	}
	ok(t, setUp(uplinkDevice, next[0].String()+"/24", next[1].String()+"/64"))
	for _, gw := range worldAddrs() { // routes went with the addresses that they needed
		if err := routeBy([]netip.Addr{gw}); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
	}
	for family := range 2 {
		o.becomes("with another address", client.NS, worldAddrs()[family], next[family])
		ok(t, sandbox.Eventually(o.ctx, soon, "a flow of before goes on", func() error {
			me, err := whoAmI(flows[family])
			if err == nil && me.Addr() != next[family] {
				err = fmt.Errorf("seen as %s", me)
			}
			return err
		}))
	}
}

// A default route that is away for a moment takes no flow with it.
func TestDefaultRouteIsAwayForAMoment(t *testing.T) {
	o := startOut(t)
	client := o.pod("client")
	startMirror(t, o.world, 8080)
	onBoth(t, func(t *testing.T, family int) {
		conn, err := client.NS.Dial("tcp", hostPort(worldAddrs()[family], 8080), answer)
		ok(t, err)
		defer conn.Close()
		before, err := whoAmI(conn)
		ok(t, err)
		gw := worldAddrs()[family]
		r := &netlink.Route{Gw: gw.AsSlice(), Dst: everywhere(gw.String())}
		ok(t, netlink.RouteDel(r))
		for range 3 {
			if me, err := whoAmI(conn); err != nil || me != before {
				t.Errorf("seen as %s, %v; before as %s", me, err, before)
			}
		}
		ok(t, netlink.RouteAdd(r))
		if me := seenAs(t, client.NS, "tcp", gw); me.Addr() != hostAddrs()[family] {
			t.Errorf("a new connection is seen as %s", me)
		}
	})
}

// Named devices take the place of those of the default routes, and none are left
// when both families are off.
func TestNamedUplinks(t *testing.T) {
	n := startNode(t, "masquerade: {ipv6: true, devices: [up1]}")
	client := n.pod("client")
	startMirror(t, n.world, 8080)
	startMirror(t, n.far, 8080)
	for family, host := range []string{farUplink().host4, farUplink().host6} {
		n.becomes("by a named device", client.NS, farAddrs()[family], netip.MustParseAddr(host))
		n.becomes("by another device", client.NS, worldAddrs()[family], addrs(client)[family])
	}
	ok(t, n.agent.Stop())
	text, err := os.ReadFile(n.config)
	ok(t, err)
	ok(t, os.WriteFile(n.config, []byte(strings.Replace(string(text), "{ipv6: true, devices: [up1]}", "{ipv4: false}", 1)), 0o644))
	n.startAgent("weft-agent")
	n.uplinkIs("up1", false)
	for family := range 2 {
		n.becomes("with masquerade off", client.NS, farAddrs()[family], addrs(client)[family])
	}
}

// Cleanup takes the programs off the uplink.
func TestCleanupOfTheUplink(t *testing.T) {
	o := startOut(t)
	if text, err := o.weft("status"); err != nil || !strings.Contains(text, "packets leave by up0 192.0.2.1 2001:db8::1") {
		t.Errorf("weft status says %v: %s", err, text)
	}
	if progs := programsOn(t, uplinkDevice); progs != 2 {
		t.Fatalf("the uplink has %d programs", progs)
	}
	ok(t, o.agent.Stop())
	if text, err := o.cleanup(); err != nil {
		t.Fatalf("cleanup: %v: %s", err, text)
	}
	if progs := programsOn(t, uplinkDevice); progs != 0 {
		t.Errorf("the uplink still has %d programs", progs)
	}
	o.startAgent("weft-agent")
	o.uplinkIs(uplinkDevice, true)
}

func programsOn(t *testing.T, device string) int {
	t.Helper()
	dev, err := netlink.LinkByName(device)
	ok(t, err)
	count := 0
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: at})
		ok(t, err)
		count += len(res.Programs)
	}
	return count
}
