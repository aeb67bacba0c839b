// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// DesiredFrontend is a front end that the kernel is to have.
type DesiredFrontend struct {
	model.FrontendRow
	Revision model.Revision
}

// DesiredSlots is the slot table of a service's port.
type DesiredSlots struct {
	model.SlotTable
	Revision model.Revision
}

// DesiredBackend is a backend that the kernel is to know.
type DesiredBackend struct {
	model.BackendRow
	Revision model.Revision
}

// addServiceTables makes the desired tables of services.
func (t *Tables) addServiceTables() (err error) {
	t.frontends, err = newTable(t.db, "desired-frontends", []string{"Address", "Service", "Slots", "Revision"},
		func(r DesiredFrontend) string { return r.FrontendKey.String() },
		func(r DesiredFrontend) []string {
			return []string{r.FrontendKey.String(), fmt.Sprint(r.Service), fmt.Sprint(r.Slots), fmt.Sprint(r.Revision)}
		})
	if err != nil {
		return err
	}
	t.slots, err = newTable(t.db, "desired-slots", []string{"Service", "Slots", "Revision"},
		func(r DesiredSlots) string { return fmt.Sprint(r.Service) },
		func(r DesiredSlots) []string {
			return []string{fmt.Sprint(r.Service), strconv.Itoa(len(r.Backends)), fmt.Sprint(r.Revision)}
		})
	if err != nil {
		return err
	}
	t.backends, err = newTable(t.db, "desired-backends", []string{"Backend", "Address", "Port", "Revision"},
		func(r DesiredBackend) string { return fmt.Sprint(r.ID) },
		func(r DesiredBackend) []string {
			return []string{fmt.Sprint(r.ID), r.Addr.String(), strconv.Itoa(int(r.Port)), fmt.Sprint(r.Revision)}
		})
	return err
}

// ChangeServices writes what a compilation changed of services, in one transaction.
func (t *Tables) ChangeServices(ch model.ServiceChanges, rev model.Revision) error {
	txn := t.db.WriteTxn(t.frontends, t.slots, t.backends)
	defer txn.Abort()
	err := errors.Join(
		change(txn, t.frontends, ch.GoneFrontends, ch.Frontends,
			func(k model.FrontendKey) DesiredFrontend {
				return DesiredFrontend{FrontendRow: model.FrontendRow{FrontendKey: k}}
			},
			func(r model.FrontendRow) DesiredFrontend { return DesiredFrontend{r, rev} }),
		change(txn, t.slots, ch.GoneSlots, ch.Slots,
			func(service uint32) DesiredSlots { return DesiredSlots{SlotTable: model.SlotTable{Service: service}} },
			func(r model.SlotTable) DesiredSlots { return DesiredSlots{r, rev} }),
		change(txn, t.backends, ch.GoneBackends, ch.Backends,
			func(id uint32) DesiredBackend { return DesiredBackend{BackendRow: model.BackendRow{ID: id}} },
			func(r model.BackendRow) DesiredBackend { return DesiredBackend{r, rev} }))
	if err != nil {
		return fmt.Errorf("writing desired services: %w", err)
	}
	txn.Commit()
	return nil
}

func change[D, K, R any](
	txn statedb.WriteTxn, table statedb.RWTable[D], gone []K, put []R, named func(K) D, wrap func(R) D,
) error {
	if _, err := removeAll(txn, table, gone, named); err != nil {
		return err
	}
	for _, row := range put {
		if _, _, err := table.Insert(txn, wrap(row)); err != nil {
			return err
		}
	}
	return nil
}

// DesiredServices reads the desired tables of services at once.
func (t *Tables) DesiredServices() ([]DesiredFrontend, []DesiredSlots, []DesiredBackend) {
	txn := t.db.ReadTxn()
	return collect(txn, t.frontends.ToTable()), collect(txn, t.slots.ToTable()), collect(txn, t.backends.ToTable())
}
