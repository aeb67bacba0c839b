// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// refused asserts that a call is refused, and long before a client would give up.
func refused(t *testing.T, ns *sandbox.NS, addr string) {
	t.Helper()
	start := time.Now()
	conn, err := ns.Dial("tcp", addr, soon)
	if err == nil {
		conn.Close()
	}
	if took := time.Since(start); !errors.Is(err, unix.ECONNREFUSED) || took > atOnce {
		t.Errorf("calling %s from %s: %v after %s, want a refusal at once", addr, ns.Name, err, took)
	}
}

func TestCallersAreToldThatTheProxyIsNotReady(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		local, remote, server := c.nodes[1].pod(alice), c.nodes[0].pod(alice), c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		serve(t, server.ns, 81)
		server.policy(rule(model.Ingress, model.IdentityNone, 1))
		callers := []*sandbox.NS{local.ns, remote.ns, c.nodes[1].ns, c.nodes[0].ns}
		check := func(t *testing.T, family int) {
			for _, ns := range callers {
				refused(t, ns, server.at(family, 80))
				answers(t, client(t, ns), "http://"+server.at(family, 81), 200, addrOf(ns, c, local, remote)[family].String())
			}
		}
		onBoth(t, check)
		if got := c.nodes[1].counted("PROXY_NOT_READY"); got != uint64(2*len(callers)) {
			t.Errorf("counted as not ready are %d, want %d", got, 2*len(callers))
		}
		e := c.nodes[1].envoy(map[model.RulesetID]string{1: "/a"})
		onBoth(t, func(t *testing.T, family int) {
			for _, ns := range callers {
				answers(t, client(t, ns), "http://"+server.at(family, 80)+"/b", 403, "refused by ruleset 1")
			}
		})
		e.kill()
		onBoth(t, check)
	})
}

// addrOf is what a caller's address is.
func addrOf(ns *sandbox.NS, c *cluster, pods ...*pod) [2]interface{ String() string } {
	for _, p := range pods {
		if p.ns == ns {
			return [2]interface{ String() string }{p.addrs[0], p.addrs[1]}
		}
	}
	for _, n := range c.nodes {
		if n.ns == ns {
			return [2]interface{ String() string }{n.addrs[0], n.addrs[1]}
		}
	}
	return [2]interface{ String() string }{}
}
