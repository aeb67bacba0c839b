// SPDX-License-Identifier: Apache-2.0

package state

import (
	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newNamespaces(db *statedb.DB) (statedb.RWTable[model.Namespace], error) {
	return newTable(db, "namespaces", []string{"Name", "Source"}, namespaceKey,
		func(n model.Namespace) []string { return []string{n.Name, n.Source} })
}

func namespaceKey(n model.Namespace) string { return n.Name }
