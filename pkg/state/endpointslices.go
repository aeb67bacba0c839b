// SPDX-License-Identifier: Apache-2.0

package state

import (
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newSlices(db *statedb.DB) (statedb.RWTable[model.EndpointSlice], error) {
	return newTable(db, "endpoint-slices", []string{"Slice", "Service", "Endpoints"}, sliceKey,
		func(s model.EndpointSlice) []string {
			return []string{sliceKey(s), s.Service.String(), strconv.Itoa(len(s.Backends))}
		})
}

func sliceKey(s model.EndpointSlice) string { return s.Namespace + "/" + s.Name }
