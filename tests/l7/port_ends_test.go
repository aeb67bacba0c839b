// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// TestOneOfTwoConnectionsOfAPortEnds, the client's or the proxy's, and the other one
// goes on.
func TestOneOfTwoConnectionsOfAPortEnds(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	var open atomic.Int32 // connections that the server has
	count := func(_ net.Conn, now http.ConnState) {
		switch now {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	for network, addr := range map[string]string{"tcp4": "0.0.0.0:80", "tcp6": "[::]:80"} {
		ln, err := server.ns.Listen(network, addr)
		ok(t, err)
		srv := &http.Server{IdleTimeout: time.Second, ConnState: count, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })}
		go srv.Serve(ln) //nolint:errcheck // it ends with the test
		t.Cleanup(func() { _ = srv.Close() })
	}
	server.policy(rule(model.Ingress, alice, 1))
	n.envoy(map[model.RulesetID]string{1: "/a"})
	fewPorts(t, a.ns, n.ns)
	onBoth(t, func(t *testing.T, family int) {
		conns := map[int]net.Conn{}
		for port := onePort; port <= lastPort; port++ {
			conn, err := dialFrom(a.ns, a.addrs[family], port, server.at(family, 80))
			ok(t, err)
			conns[port] = conn
			defer conn.Close()
		}
		each := func(when, path, want string) {
			t.Helper()
			for port, conn := range conns {
				if got := request(t, conn, path); got != want {
					t.Errorf("%s, port %d: %s, want %s", when, port, got, want)
				}
			}
		}
		for round := range 3 {
			each(fmt.Sprint("round ", round), "/a", "200")
			ok(t, sandbox.Eventually(t.Context(), 10*time.Second, "the end of the proxy's connections at the server", func() error {
				if left := open.Load(); left > 0 {
					return fmt.Errorf("%d are left", left)
				}
				return nil
			}))
			each(fmt.Sprint("idle after round ", round), "/b", "403")
			// The client ends its own in every way, and comes back from the same ports.
			for port := onePort; port <= lastPort; port++ {
				switch port % 3 {
				case 0:
					ok(t, conns[port].(*net.TCPConn).SetLinger(0))
				case 1:
					if _, err := fmt.Fprint(conns[port], "GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
						t.Error(err)
					}
					_, _ = io.Copy(io.Discard, conns[port]) // until the proxy has closed
				case 2:
					continue
				}
				conns[port].Close()
				conn, err := dialFrom(a.ns, a.addrs[family], port, server.at(family, 80))
				if err != nil {
					t.Fatalf("round %d, port %d again: %v", round, port, err)
				}
				conns[port] = conn
				defer conn.Close()
			}
			each(fmt.Sprint("the same ports again after round ", round), "/a", "200")
		}
	})
	if got := n.drops(); len(got) > 0 {
		t.Errorf("dropped were %v", got)
	}
}
