// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// The proxy and its client have a few ports each, the same. The client needs 16 at a
// time, and the proxy from 16 to 32, as each of its two workers keeps its own.
const (
	onePort  = 50000
	lastPort = onePort + 35
	atOneGo  = 16
)

func fewPorts(t *testing.T, all ...*sandbox.NS) {
	t.Helper()
	for _, ns := range all {
		ok(t, ns.TakePorts(onePort, lastPort))
	}
}

// hold answers requests when as many of their round are there as it has.
func hold(t *testing.T, ns *sandbox.NS) {
	t.Helper()
	var lock sync.Mutex
	there := map[string]int{}
	serving := func(w http.ResponseWriter, r *http.Request) {
		round := r.URL.RawQuery
		count := func(more int) int {
			lock.Lock()
			defer lock.Unlock()
			there[round] += more
			return there[round]
		}
		count(1)
		err := sandbox.Eventually(r.Context(), soon, "all requests are there", func() error {
			if n := count(0); n < atOneGo {
				return fmt.Errorf("there are %d", n)
			}
			return nil
		})
		if err != nil {
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	}
	for network, addr := range map[string]string{"tcp4": "0.0.0.0:80", "tcp6": "[::]:80"} {
		ln, err := ns.Listen(network, addr)
		ok(t, err)
		srv := &http.Server{Handler: http.HandlerFunc(serving)}
		go srv.Serve(ln) //nolint:errcheck // it ends with the test
		t.Cleanup(func() { _ = srv.Close() })
	}
}

// crowd calls at the same time by a connection each, which leaves nothing behind.
func crowd(t *testing.T, ns *sandbox.NS, url string) {
	t.Helper()
	var all sync.WaitGroup
	for i := range atOneGo {
		tr := &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			conn, err := ns.Dial(network, addr, atOnce)
			if err != nil {
				return nil, err
			}
			return conn, conn.(*net.TCPConn).SetLinger(0)
		}}
		all.Go(func() {
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: soon + 5*time.Second}
			if status, text, err := get(c, url); err != nil || status != 200 {
				t.Errorf("call %d: %d %q, %v", i, status, text, err)
			}
		})
	}
	all.Wait()
}

func TestTheProxyAndItsClientMayHaveOnePort(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		local, remote, server := c.nodes[1].pod(alice), c.nodes[0].pod(bob), c.nodes[1].pod(web)
		far := c.nodes[0].pod(web)
		hold(t, server.ns)
		hold(t, far.ns)
		server.policy(rule(model.Ingress, model.IdentityNone, 1))
		local.policy(rule(model.Egress, web, 2))
		c.nodes[1].envoy(map[model.RulesetID]string{1: "/a", 2: "/a"})
		ok(t, c.nodes[1].dp.SetRulesetLinks(model.RulesetLinks{As: map[model.RulesetID]model.RulesetID{2: 1}}))
		fewPorts(t, local.ns, remote.ns, c.nodes[1].ns)
		onBoth(t, func(t *testing.T, family int) {
			for name, call := range map[string]struct{ from, to *pod }{
				"a client of the node":     {local, server},
				"a client of another node": {remote, server},
				"a server of another node": {local, far},
			} {
				t.Run(name, func(t *testing.T) {
					for round := range 3 { // the proxy keeps its connections, and comes first from then on
						crowd(t, call.from.ns, fmt.Sprintf("http://%s/a?%d-%d", call.to.at(family, 80), call.from.n, 3*family+round))
					}
				})
			}
		})
		c.quiet()
	})
}
