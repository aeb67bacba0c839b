// SPDX-License-Identifier: Apache-2.0

package state

import (
	"reflect"
	"sync"

	"github.com/cilium/statedb"
)

// replaceAll makes the table hold exactly want: rows that are equal stay as
// they are.
func replaceAll[T any](
	txn statedb.WriteTxn, table statedb.RWTable[T], want []T, key func(T) string,
) (bool, error) {
	changed, err := putAll(txn, table, want, key)
	if err != nil {
		return changed, err
	}
	wanted := make(map[string]bool, len(want))
	for _, row := range want {
		wanted[key(row)] = true
	}
	if table.NumObjects(txn) == len(wanted) {
		return changed, nil
	}
	var gone []T
	for row := range table.All(txn) {
		if !wanted[key(row)] {
			gone = append(gone, row)
		}
	}
	fewer, err := removeAll(txn, table, gone, func(row T) T { return row })
	return changed || fewer, err
}

// putAll writes rows that are new or differ from those of the same key.
func putAll[T any](
	txn statedb.WriteTxn, table statedb.RWTable[T], rows []T, key func(T) string,
) (changed bool, err error) {
	index := primary(key)
	for _, row := range rows {
		old, _, had := table.Get(txn, index.QueryFromObject(row))
		if had && reflect.DeepEqual(old, row) {
			continue
		}
		if _, _, err := table.Insert(txn, row); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// removeAll removes rows by their names.
func removeAll[T, K any](
	txn statedb.WriteTxn, table statedb.RWTable[T], keys []K, named func(K) T,
) (changed bool, err error) {
	for _, key := range keys {
		_, had, err := table.Delete(txn, named(key))
		if err != nil {
			return changed, err
		}
		changed = changed || had
	}
	return changed, nil
}

// listing is a table's rows as they were last listed: most changes leave most tables
// as they are.
type listing[T any] struct {
	mu   sync.Mutex
	at   statedb.Revision
	rows []T
}

// of lists a table's rows in key order.
func (l *listing[T]) of(txn statedb.ReadTxn, table statedb.Table[T]) []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := table.Revision(txn); l.rows == nil || l.at != now {
		l.rows, l.at = collect(txn, table), now
	}
	return l.rows
}

// collect lists a table's rows in key order.
func collect[T any](txn statedb.ReadTxn, table statedb.Table[T]) []T {
	out := make([]T, 0, table.NumObjects(txn))
	for row := range table.All(txn) {
		out = append(out, row)
	}
	return out
}
