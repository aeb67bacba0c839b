// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
)

// What a policy of one direction makes of an endpoint: it is isolated there only,
// its set has no entries of the other one, and the host may still reach it.
func TestTheHostReachesItsPods(t *testing.T) {
	for _, d := range []model.Direction{model.Egress, model.Ingress} {
		w := newWorld(t, fake.New())
		w.source.Pods = scene().Pods
		p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "demo", Name: "p"}}
		p.Isolate[d] = true
		for _, each := range []model.Direction{model.Egress, model.Ingress} {
			p.Rules = append(p.Rules, rule(each, model.ActionAllow, each.String()+"[0]", model.Peer{Entity: "remote-node"}))
		}
		w.source.Policies = []model.Policy{p}
		w.apply()
		w.identities()
		w.must(w.tables.UpsertEndpoint(testEndpoint(1)))
		w.settle()
		k := dump(t, w.dp)
		row := k.rows[1]
		if row.EnforceEgress != (d == model.Egress) || row.EnforceIngress != (d == model.Ingress) {
			t.Errorf("%s: row %+v", d, row)
		}
		peers := map[model.IdentityID]bool{}
		for _, e := range k.sets[row.Set].Entries {
			if e.Direction != d {
				t.Errorf("%s: an entry that cannot matter: %+v", d, e)
			}
			peers[e.Peer] = true
		}
		if !peers[model.IdentityRemoteNode] || peers[model.IdentityHost] != (d == model.Ingress) {
			t.Errorf("%s: entries about %v", d, peers)
		}
	}
}
