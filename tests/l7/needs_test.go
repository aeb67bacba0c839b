// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// isReset asserts that an open connection is reset when its client goes on with it.
func isReset(t *testing.T, conn net.Conn) {
	t.Helper()
	ok(t, conn.SetDeadline(time.Now().Add(atOnce)))
	_, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an open connection that needs the proxy now: %v, want a reset", err)
	}
}

func dial(t *testing.T, ns *sandbox.NS, addr string) net.Conn {
	t.Helper()
	conn, err := ns.Dial("tcp", addr, soon)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestOpenConnectionsThatNeedTheProxyAreReset(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		local, remote, server := c.nodes[1].pod(alice), c.nodes[0].pod(alice), c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		c.nodes[1].envoy(map[model.RulesetID]string{1: "/a"})
		for family := range 2 {
			server.policy()
			var open []net.Conn
			for _, ns := range []*sandbox.NS{local.ns, remote.ns, c.nodes[1].ns, c.nodes[0].ns} {
				open = append(open, dial(t, ns, server.at(family, 80)))
			}
			server.policy(rule(model.Ingress, model.IdentityNone, 1))
			for _, conn := range open {
				isReset(t, conn)
			}
			answers(t, client(t, local.ns), "http://"+server.at(family, 80)+"/a", 200, local.addrs[family].String())
		}
		if got := c.nodes[1].counted("NEEDS_PROXY"); got < 8 {
			t.Errorf("counted as in need of the proxy are %d, want 8 at least", got)
		}
	})
}

// request sends a request by an open connection and gives the status line.
func request(t *testing.T, conn net.Conn, path string) string {
	t.Helper()
	ok(t, conn.SetDeadline(time.Now().Add(soon)))
	_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	ok(t, err)
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	ok(t, err)
	return string(buf[9:min(n, 12)])
}

func TestProxiedConnectionsStayWhenRulesGoOrFollow(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	n.envoy(map[model.RulesetID]string{1: "/a", 2: "/a"})
	for family := range 2 {
		ok(t, n.dp.SetRulesetLinks(model.RulesetLinks{}))
		server.policy(rule(model.Ingress, alice, 1))
		conn := dial(t, a.ns, server.at(family, 80))
		for _, step := range []struct {
			name    string
			ruleset model.RulesetID
			as      map[model.RulesetID]model.RulesetID
		}{
			{"as it was", 1, nil},
			{"no ruleset any more", 0, nil},
			{"another that it satisfies", 2, map[model.RulesetID]model.RulesetID{1: 2}},
		} {
			ok(t, n.dp.SetRulesetLinks(model.RulesetLinks{As: step.as}))
			server.policy(rule(model.Ingress, alice, step.ruleset))
			if ok, not := request(t, conn, "/a"), request(t, conn, "/b"); ok != "200" || not != "403" {
				t.Errorf("%s: /a %s, /b %s", step.name, ok, not)
			}
		}
		used, err := n.dp.RulesetsInUse()
		ok(t, err)
		if !used[1] {
			t.Errorf("in use are %v", used)
		}
		ok(t, n.dp.SetRulesetLinks(model.RulesetLinks{}))
		server.policy(rule(model.Ingress, alice, 0))
		answers(t, client(t, a.ns), "http://"+server.at(family, 80)+"/b", 200, a.addrs[family].String())
		server.policy(rule(model.Ingress, alice, 2))
		isReset(t, conn)
	}
}
