// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newNodes(db *statedb.DB) (statedb.RWTable[model.ClusterNode], error) {
	return newTable(db, "nodes", []string{"Node", "Addresses", "Pod ranges"}, nodeKey,
		func(n model.ClusterNode) []string {
			return []string{n.Name, fmt.Sprint(n.Addrs), fmt.Sprint(n.PodCIDRs)}
		})
}

func nodeKey(n model.ClusterNode) string { return n.Name }

func newNodeSlices(db *statedb.DB) (statedb.RWTable[model.NodeSlice], error) {
	return newTable(db, "node-slices", []string{"Slice", "Node", "Endpoints"}, nodeSliceKey,
		func(s model.NodeSlice) []string { return []string{s.Name, s.Node, strconv.Itoa(len(s.Endpoints))} })
}

func nodeSliceKey(s model.NodeSlice) string { return s.Name }
