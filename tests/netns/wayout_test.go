// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/sandbox"
)

// beyondMTU is that of the wire between the router and beyond.
const beyondMTU = 1300

// beyondAddrs are of a namespace that only the world's router leads to. Neither
// knows a way to pods.
func beyondAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:2::2")}
}

func routerAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:2::1")}
}

// out is a node whose way out is by the world, a router.
type out struct {
	*node
	beyond *sandbox.NS
}

// startOut takes both families out under the node's address.
func startOut(t *testing.T, settings ...string) *out {
	t.Helper()
	return startOutWith(t, "ipv6: true", settings...)
}

func startOutWith(t *testing.T, masquerade string, settings ...string) *out {
	t.Helper()
	o := startBehindRouter(t, masquerade, settings...)
	o.leadOut()
	return o
}

// startBehindRouter leaves the host without default routes.
func startBehindRouter(t *testing.T, masquerade string, settings ...string) *out {
	t.Helper()
	o := &out{node: startNode(t, append(settings, "masquerade: {"+masquerade+"}")...)}
	var err error
	o.beyond, err = sandbox.NewNS("beyond")
	ok(t, err)
	t.Cleanup(func() { ok(t, o.beyond.Close()) })
	ok(t, o.world.Do(makeRouter))
	ok(t, o.world.Do(func() error { return moveTo(o.beyond, "b0") }))
	ok(t, o.beyond.Do(func() error {
		if err := setUp("b0", beyondAddrs()[0].String()+"/24", beyondAddrs()[1].String()+"/64"); err != nil {
			return err
		}
		return routeBy(routerAddrs())
	}))
	return o
}

// makeRouter makes of the world, which knows a way to pods, one that does not.
func makeRouter() error {
	for _, via := range []string{hostV4, hostV6} {
		if err := netlink.RouteDel(&netlink.Route{Gw: net.ParseIP(via), Dst: everywhere(via)}); err != nil {
			return fmt.Errorf("forgetting the way by %s: %w", via, err)
		}
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "w1", beyondMTU
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "b0", PeerMTU: beyondMTU}); err != nil {
		return err
	}
	return setUp("w1", routerAddrs()[0].String()+"/24", routerAddrs()[1].String()+"/64")
}

func routeBy(via []netip.Addr) error {
	for _, gw := range via {
		if err := netlink.RouteAdd(&netlink.Route{Gw: gw.AsSlice(), Dst: everywhere(gw.String())}); err != nil {
			return fmt.Errorf("routing by %s: %w", gw, err)
		}
	}
	return nil
}

// leadOut gives the host its default routes and waits until pods leave by them and
// the wires are ready.
func (o *out) leadOut() {
	o.t.Helper()
	o.lead(o.t)
	o.findsBeyond()
}

// findsBeyond waits until the wires are ready.
func (o *out) findsBeyond() {
	o.t.Helper()
	for _, a := range beyondAddrs() {
		ok(o.t, sandbox.Eventually(o.ctx, soon, "the way beyond", func() error {
			return sandbox.Ping(sandbox.Host(), a.String(), silence)
		}))
	}
}

// lead gives the host its default routes, until the test ends.
func (n *node) lead(t *testing.T) {
	t.Helper()
	leadBy(t)
	n.uplinkIs(uplinkDevice, true)
}

func leadBy(t *testing.T) {
	t.Helper()
	ok(t, routeBy(worldAddrs()))
	t.Cleanup(func() {
		for _, gw := range worldAddrs() { // gone already where the test took the device
			err := netlink.RouteDel(&netlink.Route{Gw: gw.AsSlice(), Dst: everywhere(gw.String())})
			if err != nil && !errors.Is(err, unix.ESRCH) {
				t.Error(err)
			}
		}
	})
}

// uplinkIs waits until a device has the uplink's programs, or has not.
func (n *node) uplinkIs(device string, want bool) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.ctx, soon, "programs on "+device, func() error {
		_, err := os.Stat(pinRoot + "/links/" + device + "_netout")
		if (err == nil) != want {
			return fmt.Errorf("want %v: %w", want, errors.Join(errors.New("not so"), err))
		}
		return nil
	}))
}

// mirror tells who asks: the peer's address and port, over TCP for each line, and
// over UDP for each datagram.
type mirror struct {
	ln    net.Listener
	pc    net.PacketConn
	conns sync.Map
}

func startMirror(t *testing.T, ns *sandbox.NS, port uint16) {
	t.Helper()
	m := &mirror{}
	var err error
	m.ln, err = ns.Listen("tcp", fmt.Sprintf(":%d", port))
	ok(t, err)
	m.pc, err = ns.ListenPacket("udp", fmt.Sprintf(":%d", port))
	ok(t, err)
	go m.serveTCP() // both end with their sockets
	go m.serveUDP()
	t.Cleanup(func() {
		_, _ = m.ln.Close(), m.pc.Close()
		m.conns.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil || true })
	})
}

func (m *mirror) serveTCP() {
	for {
		conn, err := m.ln.Accept()
		if err != nil {
			return
		}
		m.conns.Store(conn, true)
		go func() { // ends with the connection
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				fmt.Fprintln(conn, plainAddr(conn.RemoteAddr())) //nolint:errcheck // the asker will miss it
			}
		}()
	}
}

func (m *mirror) serveUDP() {
	buf := make([]byte, 2048)
	for {
		_, peer, err := m.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = m.pc.WriteTo([]byte(plainAddr(peer)), peer)
	}
}

// plainAddr is an address and port, of IPv4 where it is one.
func plainAddr(a net.Addr) string {
	p := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).String()
}

// dialAs connects from a port of choice.
func dialAs(from *sandbox.NS, network string, port uint16, to string) (net.Conn, error) {
	d := net.Dialer{Timeout: answer, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	d.LocalAddr = &net.TCPAddr{Port: int(port)}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{Port: int(port)}
	}
	var conn net.Conn
	err := from.Do(func() (err error) { conn, err = d.DialContext(context.Background(), network, to); return err })
	return conn, err
}

// whoAmI asks a mirror on an open connection.
func whoAmI(conn net.Conn) (netip.AddrPort, error) {
	text, err := sandbox.AskOn(conn, "who", answer)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(strings.TrimSpace(text))
}

// seenAs is who a mirror takes the asker for.
func seenAs(t *testing.T, from *sandbox.NS, network string, to netip.Addr) netip.AddrPort {
	t.Helper()
	conn, err := from.Dial(network, hostPort(to, 8080), answer)
	if err == nil {
		defer func() { _ = conn.Close() }()
		var me netip.AddrPort
		if me, err = whoAmI(conn); err == nil {
			return me
		}
	}
	t.Errorf("%s does not reach %s over %s: %v", from.Name, to, network, err)
	return netip.AddrPort{}
}
