// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func TestAnotherAgentFindsTheProxyAsItIs(t *testing.T) {
	n := newNode(t)
	a, server := n.pod(alice), n.pod(web)
	serve(t, server.ns, 80)
	server.policy(rule(model.Ingress, alice, 1))
	n.envoy(map[model.RulesetID]string{1: "/a"})
	conn := dial(t, a.ns, server.at(0, 80))
	calls := func(when string) {
		t.Helper()
		if got := request(t, conn, "/a"); got != "200" {
			t.Errorf("%s, an open connection got %s", when, got)
		}
		answers(t, client(t, a.ns), "http://"+server.at(1, 80)+"/b", 403, "refused by ruleset 1")
	}
	calls("at first")
	ok(t, n.dp.Close())
	calls("without an agent")
	within(t, n.ns, n.open)
	calls("before the agent has said anything")
	within(t, n.ns, func() error {
		return n.dp.SetProxy(model.Proxy{Cgroups: [model.ProxyBlocks]string{n.group}, Active: true})
	})
	calls("after the agent has said the same")
	ready, err := n.dp.ReadyRulesets()
	ok(t, err)
	if !slices.Equal(ready, []model.RulesetID{1}) {
		t.Errorf("ready are %v", ready)
	}
	within(t, n.ns, func() error { return n.dp.SetProxy(model.Proxy{}) })
	server.policy()
	answers(t, client(t, a.ns), "http://"+server.at(0, 80)+"/b", 200, a.addrs[0].String())
}
