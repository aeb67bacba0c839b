// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The proxy had a connection to the server by the port that its client has now. Its
// socket waits for its time to end, and is not who the client's answers are for.
func TestASocketThatWaitsGetsNoAnswersOfTheOtherLeg(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.hasSocket(f, n.a, 4000, n.b, 80)
		v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.up("a call", v, mark, actOK)
		for _, flags := range []uint8{syn | ack, ack} {
			v, mark, _ := n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, flags)))
			if v != actOK || mark != 0 {
				t.Errorf("IPv%d, the proxy's answer: verdict %d, mark %#x", f, v, mark)
			}
		}
		// Without a flow it is the answer of a server of the host's.
		n.forget(f, n.a, n.b, 4000, 80, protoTCP)
		v, mark, _ = n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, ack)))
		n.up("an answer without a flow", v, mark, actRedirect)
	}
}

// hasSocket makes a socket of the host's own from one pod's address to another's.
func (n *node) hasSocket(f int, from *host, sport uint16, to *host, dport uint16) {
	n.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		n.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		n.Fatal(err)
	}
	for _, h := range []*host{from, to} {
		addr := &netlink.Addr{IPNet: netlink.NewIPNet(net.IP(h.ip[f].AsSlice())), Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			n.Fatal(err)
		}
		n.Cleanup(func() {
			if err := netlink.AddrDel(lo, addr); err != nil {
				n.Error(err)
			}
		})
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(n.Context(), "tcp", netip.AddrPortFrom(to.ip[f], dport).String())
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { ln.Close() })
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.ip[f], sport))}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(n.Context(), "tcp", ln.Addr().String())
	// The kernel gives an address its route a moment after it gave the address.
	for end := time.Now().Add(5 * time.Second); errors.Is(err, unix.ENETUNREACH) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		conn, err = d.DialContext(n.Context(), "tcp", ln.Addr().String())
	}
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() {
		if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close()); err != nil {
			n.Error(err)
		}
	})
}
