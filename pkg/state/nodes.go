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

// Nodes lists the cluster's nodes; known tells whether the source has delivered its
// first whole state. changed closes when there are others.
func (t *Tables) Nodes() (all []model.ClusterNode, known bool, changed <-chan struct{}) {
	txn := t.db.ReadTxn()
	rows, changed := t.nodes.AllWatch(txn)
	for n := range rows {
		all = append(all, n)
	}
	return all, t.intentOf(txn).Synced, changed
}

// NodeSlicesOf lists the slices of one node.
func (t *Tables) NodeSlicesOf(node string) []model.NodeSlice {
	var out []model.NodeSlice
	for s := range t.nodeSlices.All(t.db.ReadTxn()) {
		if s.Node == node {
			out = append(out, s)
		}
	}
	return out
}
