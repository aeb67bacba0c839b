// SPDX-License-Identifier: Apache-2.0

package state

import (
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// A policy object with several specs is several rows, told apart by Spec.
func newPolicies(db *statedb.DB) (statedb.RWTable[model.Policy], error) {
	return newTable(db, "policies", []string{"Policy", "Rules", "Source"}, policyKey,
		func(p model.Policy) []string {
			return []string{p.Key.String(), strconv.Itoa(len(p.Rules)), p.Source}
		})
}

func policyKey(p model.Policy) string { return p.Key.String() + "#" + strconv.Itoa(p.Spec) }
