// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newIdentities(db *statedb.DB) (statedb.RWTable[model.Identity], error) {
	return newTable(db, "identities", []string{"ID", "Labels"}, identityKey,
		func(i model.Identity) []string {
			return []string{strconv.FormatUint(uint64(i.ID), 10), fmt.Sprint(i.Labels.Strings())}
		})
}

func identityKey(i model.Identity) string { return fmt.Sprintf("%010d", i.ID) }

// ReplaceIdentities makes the cluster's identities exactly those given.
func (t *Tables) ReplaceIdentities(ids []model.Identity) (model.Revision, error) {
	return t.edit([]statedb.TableMeta{t.identities}, func(txn statedb.WriteTxn) (bool, error) {
		return replaceAll(txn, t.identities, ids, identityKey)
	})
}
