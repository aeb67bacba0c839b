// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"slices"
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

func (t *Tables) replaceServices(txn statedb.WriteTxn, d Desired) error {
	if err := replaceDesired(txn, t.frontends, d.Frontends, d.Revision,
		func(r DesiredFrontend) model.FrontendKey { return r.FrontendKey },
		func(r model.FrontendRow) model.FrontendKey { return r.FrontendKey },
		func(a DesiredFrontend, b model.FrontendRow) bool { return a.FrontendRow == b },
		func(r model.FrontendRow, rev model.Revision) DesiredFrontend { return DesiredFrontend{r, rev} },
	); err != nil {
		return err
	}
	if err := replaceDesired(txn, t.slots, d.Slots, d.Revision,
		func(r DesiredSlots) uint32 { return r.Service },
		func(r model.SlotTable) uint32 { return r.Service },
		func(a DesiredSlots, b model.SlotTable) bool { return slices.Equal(a.Backends, b.Backends) },
		func(r model.SlotTable, rev model.Revision) DesiredSlots { return DesiredSlots{r, rev} },
	); err != nil {
		return err
	}
	return replaceDesired(txn, t.backends, d.Backends, d.Revision,
		func(r DesiredBackend) uint32 { return r.ID },
		func(r model.BackendRow) uint32 { return r.ID },
		func(a DesiredBackend, b model.BackendRow) bool { return a.BackendRow == b },
		func(r model.BackendRow, rev model.Revision) DesiredBackend { return DesiredBackend{r, rev} },
	)
}

// DesiredServices reads the desired tables of services at once.
func (t *Tables) DesiredServices() ([]DesiredFrontend, []DesiredSlots, []DesiredBackend) {
	txn := t.db.ReadTxn()
	return collect(txn, t.frontends.ToTable()), collect(txn, t.slots.ToTable()), collect(txn, t.backends.ToTable())
}
