// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// onBothWays runs a test on two nodes, without and with a tunnel between them.
func onBothWays(t *testing.T, f func(t *testing.T, c *cluster)) {
	for name, tunnel := range map[string]bool{"native": false, "tunnel": true} {
		t.Run(name, func(t *testing.T) { f(t, newCluster(t, 2, tunnel)) })
	}
}

// quiet asserts that nothing was dropped on any node.
func (c *cluster) quiet() {
	c.Helper()
	for _, n := range c.nodes {
		if got := n.drops(); len(got) != 0 {
			c.Errorf("on node %d, dropped were %v", n.n, got)
		}
	}
}

func TestPeersOfOtherNodesMeetTheirRulesets(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		a, b, server := c.nodes[0].pod(alice), c.nodes[0].pod(bob), c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		server.row.EnforceIngress = true
		server.policy(rule(model.Ingress, alice, 1), rule(model.Ingress, bob, 0))
		c.nodes[1].envoy(map[model.RulesetID]string{1: "/a"})
		onBoth(t, func(t *testing.T, family int) {
			at := "http://" + server.at(family, 80)
			fromA, fromB := client(t, a.ns), client(t, b.ns)
			for range 3 {
				answers(t, fromA, at+"/a", 200, a.addrs[family].String())
				answers(t, fromA, at+"/b", 403, "refused by ruleset 1")
				answers(t, fromB, at+"/any", 200, b.addrs[family].String())
			}
		})
		c.quiet()
	})
}

func TestEgressRulesetsHoldTowardsOtherNodes(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		a, server := c.nodes[0].pod(alice), c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		a.row.EnforceEgress = true
		a.policy(rule(model.Egress, web, 3))
		c.nodes[0].envoy(map[model.RulesetID]string{3: "/out"})
		onBoth(t, func(t *testing.T, family int) {
			at := "http://" + server.at(family, 80)
			from := client(t, a.ns)
			for range 3 {
				answers(t, from, at+"/out", 200, a.addrs[family].String())
				answers(t, from, at+"/b", 403, "refused by ruleset 3")
			}
		})
		c.quiet()
	})
}

func TestBothSidesHaveRulesets(t *testing.T) {
	for name, nodes := range map[string]int{"one node": 1, "two nodes": 2} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nodes, false)
			a, server := c.nodes[0].pod(alice), c.nodes[nodes-1].pod(web)
			serve(t, server.ns, 80)
			a.policy(rule(model.Egress, web, 3))
			server.policy(rule(model.Ingress, alice, 4))
			paths := map[model.RulesetID]string{3: "/both", 4: "/both"}
			for _, n := range c.nodes {
				n.envoy(paths)
			}
			onBoth(t, func(t *testing.T, family int) {
				at := "http://" + server.at(family, 80)
				from := client(t, a.ns)
				for range 3 {
					answers(t, from, at+"/both", 200, a.addrs[family].String())
					answers(t, from, at+"/b", 403, "refused by ruleset 3")
				}
			})
			c.quiet()
		})
	}
}

func TestTheHostsOwnClientsMeetRulesets(t *testing.T) {
	onBothWays(t, func(t *testing.T, c *cluster) {
		server := c.nodes[1].pod(web)
		serve(t, server.ns, 80)
		server.policy(rule(model.Ingress, model.IdentityHost, 1), rule(model.Ingress, model.IdentityRemoteNode, 2))
		c.nodes[1].envoy(map[model.RulesetID]string{1: "/host", 2: "/other"})
		onBoth(t, func(t *testing.T, family int) {
			at := "http://" + server.at(family, 80)
			own, other := client(t, c.nodes[1].ns), client(t, c.nodes[0].ns)
			for range 3 {
				answers(t, own, at+"/host", 200, c.nodes[1].addrs[family].String())
				answers(t, own, at+"/b", 403, "refused by ruleset 1")
				answers(t, other, at+"/other", 200, c.nodes[0].addrs[family].String())
				answers(t, other, at+"/b", 403, "refused by ruleset 2")
			}
		})
		c.quiet()
	})
}

func TestEgressRulesetsHoldTowardsTheWorld(t *testing.T) {
	c := newCluster(t, 1, false)
	world := c.plug("world")
	within(t, world, func() error {
		_, err := sandbox.Up("up0", "192.168.77.200/24", "fd77::200/64")
		return err
	})
	serve(t, world, 80)
	a := c.nodes[0].pod(alice)
	a.row.EnforceEgress = true
	a.policy(rule(model.Egress, model.IdentityWorldIPv4, 3), rule(model.Egress, model.IdentityWorldIPv6, 3))
	c.nodes[0].envoy(map[model.RulesetID]string{3: "/out"})
	for family, at := range []string{"http://192.168.77.200", "http://[fd77::200]"} {
		from := client(t, a.ns)
		for range 3 {
			answers(t, from, at+"/out", 200, c.nodes[0].addrs[family].String())
			answers(t, from, at+"/b", 403, "refused by ruleset 3")
		}
	}
	c.quiet()
}

// Between the proxy and the host's own servers no device of ours is passed.
func TestEgressRulesetsHoldTowardsTheHost(t *testing.T) {
	n := newNode(t)
	serve(t, n.ns, 80)
	a := n.pod(alice)
	a.row.EnforceEgress = true
	a.policy(rule(model.Egress, model.IdentityHost, 3))
	n.envoy(map[model.RulesetID]string{3: "/out"})
	onBoth(t, func(t *testing.T, family int) {
		from := client(t, a.ns)
		at := "http://" + netip.AddrPortFrom(n.addrs[family], 80).String()
		for range 3 {
			answers(t, from, at+"/out", 200, a.addrs[family].String())
			answers(t, from, at+"/b", 403, "refused by ruleset 3")
		}
	})
	if got := n.drops(); len(got) != 0 {
		t.Errorf("dropped were %v", got)
	}
}
