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

// identityKey is the number in ten digits, so that keys sort as numbers do.
func identityKey(i model.Identity) string {
	key := [10]byte{}
	for n, at := i.ID, len(key)-1; at >= 0; n, at = n/10, at-1 {
		key[at] = '0' + byte(n%10)
	}
	return string(key[:])
}

// ReplaceIdentities makes the cluster's identities exactly those given.
func (t *Tables) ReplaceIdentities(ids []model.Identity) (model.Revision, error) {
	return t.edit([]statedb.TableMeta{t.identities}, func(txn statedb.WriteTxn) (bool, error) {
		gone, came := model.DiffIdentities(t.listed.identities.of(txn, t.identities.ToTable()), model.SortIdentities(ids))
		for _, id := range gone {
			if _, _, err := t.identities.Delete(txn, id); err != nil {
				return false, err
			}
		}
		for _, id := range came {
			if _, _, err := t.identities.Insert(txn, id); err != nil {
				return false, err
			}
		}
		return len(gone)+len(came) > 0, nil
	})
}
