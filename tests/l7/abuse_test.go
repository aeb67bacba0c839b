// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

// pretend calls from the host with a pod's address and the mark of the proxy.
func pretend(n *node, from net.IP, addr string, mark uint32) (net.Conn, error) {
	var conn net.Conn
	d := net.Dialer{Timeout: atOnce, LocalAddr: &net.TCPAddr{IP: from},
		Control: func(network, _ string, raw syscall.RawConn) error {
			var err error
			control := raw.Control(func(fd uintptr) {
				level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
				if network == "tcp6" {
					level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
				}
				err = errors.Join(unix.SetsockoptInt(int(fd), level, opt, 1),
					unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
			})
			return errors.Join(control, err)
		}}
	d.SetMultipathTCP(false)
	err := n.ns.Do(func() (err error) { conn, err = d.Dial("tcp", addr); return err })
	return conn, err
}

func TestAMarkAloneGetsNothing(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	server.policy(rule(model.Ingress, alice, 1))
	n.envoy(map[model.RulesetID]string{1: "/a"})
	onBoth(t, func(t *testing.T, family int) {
		conn, err := pretend(n, a.addrs[family].AsSlice(), server.at(family, 80), model.ProxyMark(1))
		if err != nil {
			return // who is answered is the pod
		}
		defer conn.Close()
		if got := request(t, conn, "/b"); got != "403" {
			t.Errorf("with the proxy's mark, another process got %s", got)
		}
	})
}

func TestOthersDoNotGetTheProxysPorts(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	server.policy(rule(model.Ingress, alice, 1))
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for _, port := range []int{model.FirstProxyPort, model.LastProxyPort} {
			ln, err := n.ns.Listen("tcp", net.JoinHostPort(addr, fmt.Sprint(port)))
			if err == nil {
				ln.Close()
			}
			if !errors.Is(err, os.ErrPermission) {
				t.Errorf("listening at %s port %d: %v, want that it is not permitted", addr, port, err)
			}
		}
	}
	// A listener of the host's at every address, on the port that the client calls.
	serve(t, n.ns, 80)
	onBoth(t, func(t *testing.T, family int) { refused(t, a.ns, server.at(family, 80)) })
	n.envoy(map[model.RulesetID]string{1: "/a"})
	onBoth(t, func(t *testing.T, family int) {
		loopback := [2]string{"127.0.0.1", "::1"}[family]
		addr := net.JoinHostPort(loopback, fmt.Sprint(model.ProxyPort(0, 1)))
		conn, err := n.ns.Dial("tcp", addr, atOnce)
		if err == nil {
			conn.Close()
			t.Errorf("the proxy's own port answers at %s", addr)
		}
		answers(t, client(t, a.ns), "http://"+server.at(family, 80)+"/b", 403, "refused by ruleset 1")
	})
}

// Not even for a process of the host's that has its packets led to the host's sockets.
func TestAListenerOfTheHostGetsNoCallOfAPods(t *testing.T) {
	n := newNode(t)
	server := n.pod(web)
	serve(t, n.ns, 80)
	const toProxy = 0x200
	onBoth(t, func(t *testing.T, family int) {
		conn, err := pretend(n, nil, server.at(family, 80), toProxy)
		if err == nil {
			conn.Close()
			t.Error("a listener of the host's answers for a pod")
		}
	})
}
