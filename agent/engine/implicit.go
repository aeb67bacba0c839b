// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/weftmesh/weft/pkg/model"

// implicitPolicies are rules that hold without anyone writing them. The node's
// own sockets may reach its pods, as the NetworkPolicy API requires ("traffic to
// and from the node where a Pod is running is always allowed",
// https://kubernetes.io/docs/concepts/services-networking/network-policies/);
// a deny rule for the entity host takes it back. They isolate nobody.
func implicitPolicies() []model.Policy {
	return []model.Policy{{
		Key: model.PolicyKey{Kind: "Weft", Name: "allow-from-host"},
		Rules: []model.Rule{{
			Direction: model.Ingress,
			Action:    model.ActionAllow,
			Name:      "ingress[0]",
			Peers:     []model.Peer{{Entity: "host"}},
		}},
	}}
}

// withoutIdle drops the entries of directions in which they cannot matter: an
// endpoint that is not isolated passes everything that no entry stops, so
// entries that only allow would cost look-ups and change nothing.
func withoutIdle(entries []model.PolicyEntry, isolated [2]bool) []model.PolicyEntry {
	var needed [2]bool
	for _, e := range entries {
		if isolated[e.Direction] || e.Action != model.ActionAllow || e.Ruleset != 0 {
			needed[e.Direction] = true
		}
	}
	var out []model.PolicyEntry
	for _, e := range entries {
		if needed[e.Direction] {
			out = append(out, e)
		}
	}
	return out
}
