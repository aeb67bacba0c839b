// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// dialFrom calls from a port.
func dialFrom(ns *sandbox.NS, from netip.Addr, port int, addr string) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: atOnce, LocalAddr: &net.TCPAddr{IP: from.AsSlice(), Port: port}}
	d.SetMultipathTCP(false)
	err = ns.Do(func() error { conn, err = d.Dial("tcp", addr); return err })
	return conn, err
}

// TestOnePortForBothWhileRulesChange: the proxy has a connection to the server of each
// port that its client has, too.
func TestOnePortForBothWhileRulesChange(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	server.policy(rule(model.Ingress, alice, 1))
	n.envoy(map[model.RulesetID]string{1: "/a", 2: "/a"})
	fewPorts(t, a.ns, n.ns)
	onBoth(t, func(t *testing.T, family int) {
		ok(t, n.dp.SetRulesetLinks(model.RulesetLinks{}))
		server.policy(rule(model.Ingress, alice, 1))
		var conns []net.Conn
		for port := onePort; port < onePort+atOneGo; port++ {
			conn, err := dialFrom(a.ns, a.addrs[family], port, server.at(family, 80))
			ok(t, err)
			defer conn.Close()
			conns = append(conns, conn)
		}
		each := func(when string) {
			t.Helper()
			for range 2 {
				for i, conn := range conns {
					if got := request(t, conn, "/a"); got != "200" {
						t.Errorf("%s, connection %d: %s", when, i, got)
					}
				}
			}
		}
		each("at first")
		ok(t, n.dp.SetRulesetLinks(model.RulesetLinks{As: map[model.RulesetID]model.RulesetID{1: 2}}))
		server.policy(rule(model.Ingress, alice, 2))
		each("with another ruleset")
		server.policy(rule(model.Ingress, alice, 0))
		each("without a ruleset")
		// What is direct now may meet the proxy's own connections at the server.
		refused := 0
		for port := onePort; port <= lastPort; port++ {
			start := time.Now()
			conn, err := dialFrom(a.ns, a.addrs[family], port, server.at(family, 80))
			switch took := time.Since(start); {
			case errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL): // of conns
			case errors.Is(err, unix.ECONNREFUSED):
				refused++
			case err != nil || took > atOnce/2:
				t.Errorf("a direct call from port %d: %v after %s", port, err, took)
			default:
				conn.Close()
			}
		}
		t.Logf("%d direct calls were refused", refused)
	})
	t.Log(fmt.Sprint("dropped were ", n.drops()))
}
