// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// goneWorld is a service of each family and protocol, all of whose backends are
// listeners on the loopback device of one network namespace.
type goneWorld struct {
	d     *Datapath
	ns    *sandbox.NS
	ids   []uint32
	conns []net.Conn // by family and protocol
}

func newGoneWorld(t *testing.T, d *Datapath, ns *sandbox.NS) *goneWorld {
	t.Helper()
	w := &goneWorld{d: d, ns: ns}
	for i, family := range []string{"127.0.0.1:0", "[::1]:0"} {
		for j, protocol := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			id := uint32(2*i + j + 1)
			f := frontendAt(byte(id), i == 1, protocol, 1)
			at := w.listen(t, protocol, family)
			putService(t, d, f, model.BackendRow{ID: id, Addr: at.Addr(), Port: at.Port(), Protocol: protocol})
			network := map[uint8]string{model.ProtoTCP: "tcp", model.ProtoUDP: "udp"}[protocol]
			conn, err := ns.Dial(network, netip.AddrPortFrom(f.Addr, f.Port).String(), 5*time.Second)
			must(t, err)
			t.Cleanup(func() { conn.Close() })
			w.ids, w.conns = append(w.ids, id), append(w.conns, conn)
			if protocol == model.ProtoUDP {
				_, err := conn.Write([]byte("hello"))
				must(t, err)
			}
		}
	}
	return w
}

// listen opens what a backend serves with; TCP connections are kept open.
func (w *goneWorld) listen(t *testing.T, protocol uint8, addr string) netip.AddrPort {
	t.Helper()
	if protocol == model.ProtoUDP {
		pc, err := w.ns.ListenPacket("udp", addr)
		must(t, err)
		t.Cleanup(func() { pc.Close() })
		return pc.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	ln, err := w.ns.Listen("tcp", addr)
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// ended tells how a read on a connection ends; nil: it does not.
func ended(t *testing.T, conn net.Conn) error {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return nil
	}
	return err
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// pass ends sockets and wants that none is left.
func pass(t *testing.T, d *Datapath, want SocketsEnded) {
	t.Helper()
	left, err := d.EndGoneSockets()
	if err != nil || left != 0 {
		t.Errorf("%d sockets are left, %v", left, err)
	}
	if got, err := d.SocketsEnded(); err != nil || got != want {
		t.Errorf("ended: %+v, %v; want %+v", got, err, want)
	}
}

func needSockDestroy(t *testing.T, d *Datapath) {
	t.Helper()
	if !d.EndsSockets() {
		t.Skip("kernel: bpf_sock_destroy (6.5)")
	}
}

func TestSocketsOfGoneBackendsEnd(t *testing.T) {
	d := open(t, Config{})
	needSockDestroy(t, d)
	elsewhere, err := sandbox.NewNS("elsewhere")
	must(t, err)
	here := newGoneWorld(t, d, sandbox.Host())
	must(t, d.DeleteBackends(here.ids))
	pass(t, d, SocketsEnded{TCP: 2, UDP: 2})
	there := newGoneWorld(t, d, elsewhere) // with the same numbers again
	pass(t, d, SocketsEnded{TCP: 2, UDP: 2})
	for i, conn := range there.conns {
		if err := ended(t, conn); err != nil {
			t.Errorf("connection %d, whose backend is there, ended: %v", i, err)
		}
	}
	must(t, d.DeleteBackends(there.ids[:2]))
	select {
	case <-d.BackendsRemoved():
	default:
		t.Error("nobody was told that backends were removed")
	}
	pass(t, d, SocketsEnded{TCP: 3, UDP: 3})
	for i, conn := range append(here.conns, there.conns...) {
		err, gone := ended(t, conn), i < 6
		if gone != errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("connection %d, backend gone: %t, ended: %v", i, gone, err)
		}
	}
	// What only its sockets keep alive cannot be entered.
	must(t, elsewhere.Close())
	must(t, d.DeleteBackends(there.ids))
	if left, err := d.EndGoneSockets(); err != nil || left != 2 {
		t.Errorf("%d sockets are said to be left, %v; want 2", left, err)
	}
}

// Multipath TCP, as some programs use it by default. With a backend that has it,
// too, only the path can be ended: the kernel keeps the connection for
// net.mptcp.close_timeout, in case another path comes up.
func TestMultipathSocketsEnd(t *testing.T) {
	d := open(t, Config{})
	needSockDestroy(t, d)
	for n, multipath := range []bool{false, true} {
		f := frontendAt(1, false, model.ProtoTCP, 1)
		var lc net.ListenConfig
		lc.SetMultipathTCP(multipath)
		ln, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
		must(t, err)
		defer ln.Close()
		at := ln.Addr().(*net.TCPAddr).AddrPort()
		putService(t, d, f, model.BackendRow{ID: 1, Addr: at.Addr(), Port: at.Port(), Protocol: model.ProtoTCP})
		var dialer net.Dialer
		dialer.SetMultipathTCP(true)
		conn, err := dialer.Dial("tcp", netip.AddrPortFrom(f.Addr, f.Port).String())
		must(t, err)
		defer conn.Close()
		if used, err := conn.(*net.TCPConn).MultipathTCP(); err != nil || used != multipath {
			t.Errorf("multipath %t, %v; want %t", used, err, multipath)
		}
		must(t, d.DeleteBackends([]uint32{1}))
		pass(t, d, SocketsEnded{TCP: uint64(n + 1)})
		if err := ended(t, conn); !multipath && !errors.Is(err, syscall.ECONNABORTED) {
			t.Errorf("ended: %v", err)
		}
	}
}

// What does not wait for the backend is left alone.
func TestSocketsThatDoNotWaitStay(t *testing.T) {
	d := open(t, Config{})
	needSockDestroy(t, d)
	f := frontendAt(1, false, model.ProtoTCP, 1)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	putService(t, d, f, model.BackendRow{ID: 1, Addr: at.Addr(), Port: at.Port(), Protocol: model.ProtoTCP})
	conn, err := net.Dial("tcp", netip.AddrPortFrom(f.Addr, f.Port).String())
	must(t, err)
	defer conn.Close()
	direct, err := net.Dial("tcp", at.String())
	must(t, err)
	defer direct.Close()
	peer, err := ln.Accept()
	must(t, err)
	_, err = peer.Write([]byte("bye"))
	must(t, err)
	must(t, peer.Close())

	u := frontendAt(2, false, model.ProtoUDP, 1)
	echo := echoUDP(t)
	putService(t, d, u, model.BackendRow{ID: 2, Addr: echo.Addr(), Port: echo.Port(), Protocol: model.ProtoUDP})
	pc, err := net.ListenUDP("udp4", nil)
	must(t, err)
	defer pc.Close()
	_, err = pc.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(u.Addr, u.Port))
	must(t, err)

	must(t, d.DeleteBackends([]uint32{1, 2}))
	pass(t, d, SocketsEnded{})
	if got, err := io.ReadAll(conn); err != nil || string(got) != "bye" {
		t.Errorf("from a backend that has closed: %q, %v", got, err)
	}
	if err := ended(t, direct); err != nil {
		t.Errorf("a direct connection ended: %v", err)
	}
	must(t, pc.SetReadDeadline(time.Now().Add(5*time.Second)))
	if _, _, err := pc.ReadFromUDPAddrPort(make([]byte, 100)); err != nil {
		t.Errorf("a socket without a peer: %v", err)
	}
}
