// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// What a node may say in the tunnel, and what nobody may, on flows that are known as
// well. The pod hears what is let pass: a control for what is not.
func TestForgedFramesAreDropped(t *testing.T) {
	c := newCluster(t, 0, 3)
	n := c.nodes[0]
	pod := n.pod(300)
	f := n.forger(t, sandbox.Host(), "under", "up0")
	heard := listen(t, pod.ns)
	one, two := c.nodes[1], c.nodes[2]
	good := forge{outer: one.addrs[0], vni: 400, src: at(one.ranges[0], 9), dst: pod.addrs[0]}
	foreign := func(change func(*forge)) forge { g := good; change(&g); return g }
	pass := func(name string, g forge) {
		t.Helper()
		f.send(t, g)
		if err := heard(g.src, soon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refuse := func(name, reason string, g forge, skip ...int) {
		t.Helper()
		before := n.counted(reason)
		f.send(t, g, skip...)
		err := sandbox.Eventually(t.Context(), soon, "a drop for "+reason, func() error {
			if n.counted(reason) > before {
				return nil
			}
			return fmt.Errorf("dropped were %v", n.drops())
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	pass("a pod of the node", good)
	pass("the node itself", foreign(func(g *forge) { g.vni, g.src = 2, one.addrs[0] }))
	pass("the world by way of the node", foreign(func(g *forge) { g.vni, g.src, g.sport = 3, one.addrs[0], 4001 }))

	refuse("from nobody's address", "TUNNEL_PEER", foreign(func(g *forge) { g.outer = at(one.ranges[0], 200) }))
	refuse("a known flow, from another node", "TUNNEL_SOURCE", foreign(func(g *forge) { g.outer = two.addrs[0] }))
	refuse("a pod of this node", "TUNNEL_SOURCE", foreign(func(g *forge) { g.src = at(n.ranges[0], 99) }))
	refuse("somebody of the world", "TUNNEL_SOURCE", foreign(func(g *forge) { g.src, g.vni = netip.MustParseAddr("8.8.8.8"), 3 }))
	for _, vni := range []uint32{0, 1, 2, 3, 5, 9, 255} {
		refuse(fmt.Sprintf("a pod as identity %d", vni), "TUNNEL_SOURCE", foreign(func(g *forge) { g.vni = vni }))
	}
	for _, vni := range []uint32{0, 1, 5, 300} {
		refuse(fmt.Sprintf("the node as identity %d", vni), "TUNNEL_SOURCE", foreign(func(g *forge) { g.vni, g.src = vni, one.addrs[0] }))
	}
	refuse("for a pod of another node", "TUNNEL_TARGET", foreign(func(g *forge) { g.dst = at(two.ranges[0], 9) }))
	refuse("for the world", "TUNNEL_TARGET", foreign(func(g *forge) { g.dst = netip.MustParseAddr("8.8.8.8") }))
	refuse("in pieces", "FRAGMENT", foreign(func(g *forge) { g.split = 64 }), 1)
	if err := heard(netip.Addr{}, never); err == nil {
		t.Error("something of that was heard")
	}
}

// A frame is believed only by an uplink. Its first piece has the mark for the whole:
// one from elsewhere does not get it from a piece that came by the uplink.
func TestFramesFromElsewhereThanTheUplinkAreDropped(t *testing.T) {
	c := newCluster(t, 0, 2)
	n, one := c.nodes[0], c.nodes[1]
	pod := n.pod(300)
	heard := listen(t, pod.ns)
	other, err := sandbox.NewNS("elsewhere")
	ok(t, err)
	t.Cleanup(func() { ok(t, other.Close()) })
	within(t, n.ns, func() error {
		wire(t, "side0", other, "eth0")
		_, err := sandbox.Up("side0")
		return err
	})
	within(t, other, func() error { _, err := sandbox.Up("eth0"); return err })
	side := n.forger(t, other, "eth0", "side0")
	right := n.forger(t, sandbox.Host(), "under", "up0")
	g := forge{outer: one.addrs[0], vni: 400, src: at(one.ranges[0], 9), dst: pod.addrs[0]}
	right.send(t, g)
	ok(t, heard(g.src, soon))

	before := n.counted("TUNNEL_PEER")
	side.send(t, g)
	g.split = 64
	side.send(t, g, 1)
	right.send(t, g, 0)
	ok(t, sandbox.Eventually(t.Context(), soon, "two drops", func() error {
		if got := n.counted("TUNNEL_PEER"); got != before+2 {
			return fmt.Errorf("%d", got-before)
		}
		return nil
	}))
	if err := heard(netip.Addr{}, never); err == nil {
		t.Error("a frame from elsewhere was heard")
	}
}

// Nobody's socket speaks to the tunnel, a pod's packets neither; among pods the port
// is one like any other.
func TestNobodySpeaksToTheTunnel(t *testing.T) {
	c := newCluster(t, 0, 2)
	a, b := c.nodes[0], c.nodes[1]
	client, server := a.pod(300), b.pod(301)
	server.serve(tunnelPort)
	onBoth(t, func(t *testing.T, family int) {
		if got, err := sandbox.Ask(client.ns, "udp", server.at(family, tunnelPort), "hello", soon); err != nil || got != "pod hello" {
			t.Errorf("among pods: %q, %v", got, err)
		}
		loop := []string{"127.0.0.1", "::1"}[family]
		for _, to := range []string{a.addrs[family].String(), b.addrs[family].String(), loop} {
			for _, ns := range []*sandbox.NS{client.ns, a.ns} {
				before := a.counted("TUNNEL_PORT")
				if err := speak(ns, hostPort(netip.MustParseAddr(to), tunnelPort)); err == nil {
					t.Errorf("%s may speak to %s", ns.Name, to)
				}
				if a.counted("TUNNEL_PORT") == before {
					t.Errorf("%s to %s: not counted", ns.Name, to)
				}
			}
		}
	})
}

// speak sends from a socket without a peer, then from one with.
func speak(ns *sandbox.NS, to string) error {
	addr, err := net.ResolveUDPAddr("udp", to)
	if err != nil {
		return nil // a fault of the test's
	}
	pc, err := ns.ListenPacket("udp", ":0")
	if err != nil {
		return nil
	}
	defer pc.Close()
	if _, err := pc.WriteTo([]byte("x"), addr); err == nil {
		return nil
	}
	conn, err := ns.Dial("udp", to, time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// What is too large for the tunnel, or has no hop left, is answered by the stack.
func TestTheStackAnswersWhatDoesNotFitTheTunnel(t *testing.T) {
	c := newCluster(t, 0, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	server.serve(8080)
	// A pod that thinks more of its way than there is.
	within(t, client.ns, func() error { return setMTU("eth0", underlayMTU) })
	client.row.MTU = underlayMTU
	ok(t, c.nodes[0].dp.ApplyEndpoint(client.row))
	onBoth(t, func(t *testing.T, family int) {
		s, err := sandbox.StartStream(sandbox.StreamConfig{NS: client.ns, Addr: server.at(family, 8080)})
		ok(t, err)
		defer s.Stop()
		ok(t, sandbox.Eventually(t.Context(), soon, "a transfer", func() error {
			if p := s.Progress(); p.Echoed < 1<<20 {
				return fmt.Errorf("%d bytes, %v", p.Echoed, p.Err)
			}
			return nil
		}))
		for hops, want := range map[int]netip.Addr{1: c.nodes[0].addrs[family], 2: c.nodes[1].addrs[family]} {
			if got, err := expires(client.ns, server.addrs[family], hops); err != nil || got != want {
				t.Errorf("after %d hops: %s answers, %v", hops, got, err)
			}
		}
	})
}

// listen hears datagrams to port 8080: from an address, or from anybody.
func listen(t *testing.T, ns *sandbox.NS) func(from netip.Addr, within time.Duration) error {
	t.Helper()
	pc, err := ns.ListenPacket("udp", ":8080")
	ok(t, err)
	t.Cleanup(func() { _ = pc.Close() })
	return func(from netip.Addr, within time.Duration) error {
		if err := pc.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		buf := make([]byte, 100)
		_, addr, err := pc.ReadFrom(buf)
		if err != nil {
			return err
		}
		if got := addr.(*net.UDPAddr).AddrPort().Addr().Unmap(); from.IsValid() && got != from {
			return errors.New("heard " + got.String())
		}
		return nil
	}
}

// at is an address of a range.
func at(p netip.Prefix, last byte) netip.Addr {
	a := p.Addr().As4()
	a[3] = last
	return netip.AddrFrom4(a)
}
