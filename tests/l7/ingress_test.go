// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

const (
	alice = model.IdentityID(1001)
	bob   = model.IdentityID(1002)
	web   = model.IdentityID(1003)
)

func TestPeersOfOneNodeMeetTheirRulesets(t *testing.T) {
	n := newNode(t)
	a, b, c, server := n.pod(alice), n.pod(bob), n.pod(1004), n.pod(web)
	serve(t, server.ns, 80)
	server.row.EnforceIngress = true
	server.policy(rule(model.Ingress, alice, 1), rule(model.Ingress, bob, 2), rule(model.Ingress, 1004, 0))
	n.envoy(map[model.RulesetID]string{1: "/a", 2: "/b"})
	onBoth(t, func(t *testing.T, family int) {
		at := "http://" + server.at(family, 80)
		fromA, fromB, fromC := client(t, a.ns), client(t, b.ns), client(t, c.ns)
		for range 3 {
			answers(t, fromA, at+"/a", 200, a.addrs[family].String())
			answers(t, fromA, at+"/b", 403, "refused by ruleset 1")
			answers(t, fromB, at+"/b", 200, b.addrs[family].String())
			answers(t, fromB, at+"/a", 403, "refused by ruleset 2")
			answers(t, fromC, at+"/any", 200, c.addrs[family].String())
		}
	})
	if got := n.drops(); len(got) != 0 {
		t.Errorf("dropped were %v", got)
	}
}
