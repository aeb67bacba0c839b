// SPDX-License-Identifier: Apache-2.0

package state

import (
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newServices(db *statedb.DB) (statedb.RWTable[model.Service], error) {
	return newTable(db, "services", []string{"Service", "Ports"}, serviceKey,
		func(s model.Service) []string {
			return []string{serviceKey(s), strconv.Itoa(len(s.Ports))}
		})
}

func serviceKey(s model.Service) string { return s.Namespace + "/" + s.Name }
