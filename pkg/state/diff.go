// SPDX-License-Identifier: Apache-2.0

package state

import (
	"reflect"

	"github.com/cilium/statedb"
)

// replaceAll makes the table hold exactly want: rows that are equal stay as
// they are.
func replaceAll[T any](
	txn statedb.WriteTxn, table statedb.RWTable[T], want []T, key func(T) string,
) (bool, error) {
	changed := false
	have := make(map[string]T, table.NumObjects(txn))
	for row := range table.All(txn) {
		have[key(row)] = row
	}
	for _, row := range want {
		k := key(row)
		old, ok := have[k]
		delete(have, k)
		if ok && reflect.DeepEqual(old, row) {
			continue
		}
		if _, _, err := table.Insert(txn, row); err != nil {
			return changed, err
		}
		changed = true
	}
	for _, row := range have {
		if _, _, err := table.Delete(txn, row); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// collect lists a table's rows in key order.
func collect[T any](txn statedb.ReadTxn, table statedb.Table[T]) []T {
	out := make([]T, 0, table.NumObjects(txn))
	for row := range table.All(txn) {
		out = append(out, row)
	}
	return out
}
