// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/model"
)

// ServiceFollower tells what became of services between one snapshot and the next,
// so that nobody need look at all of them. It belongs to one goroutine.
type ServiceFollower struct {
	services follower[model.Service]
	slices   follower[model.EndpointSlice]
}

// FollowServices makes a follower, to which everything is new at first. The tables
// keep what is deleted until it was told.
func (t *Tables) FollowServices() (*ServiceFollower, error) {
	txn := t.db.WriteTxn(t.services, t.slices)
	defer txn.Abort()
	services, err := t.services.Changes(txn)
	if err != nil {
		return nil, fmt.Errorf("following services: %w", err)
	}
	slices, err := t.slices.Changes(txn)
	if err != nil {
		return nil, fmt.Errorf("following endpoint slices: %w", err)
	}
	txn.Commit()
	return &ServiceFollower{services: follower[model.Service]{table: t.services, changes: services},
		slices: follower[model.EndpointSlice]{table: t.slices, changes: slices}}, nil
}

// Next tells what has changed from the snapshot that was last asked about to this
// one. Each change is told once.
func (f *ServiceFollower) Next(s Snapshot) (ch lb.Changes) {
	f.services.next(s.txn, func(v model.Service, gone bool) {
		if gone {
			ch.GoneServices = append(ch.GoneServices, v.ServiceKey)
		} else {
			ch.Services = append(ch.Services, v)
		}
	})
	f.slices.next(s.txn, func(v model.EndpointSlice, gone bool) {
		if gone {
			ch.GoneSlices = append(ch.GoneSlices, v.EndpointSliceKey)
		} else {
			ch.Slices = append(ch.Slices, v)
		}
	})
	return ch
}

type follower[T any] struct {
	table   statedb.Table[T]
	changes statedb.ChangeIterator[T]
	told    statedb.Revision
}

// next tells the changes up to a transaction. An iterator that was read to its end
// has nothing more until its channel is closed, which happens just after a snapshot
// may have the change; so where the table has moved on, the channel is waited for.
func (f *follower[T]) next(txn statedb.ReadTxn, tell func(row T, gone bool)) {
	now := f.table.Revision(txn)
	if now == f.told {
		return
	}
	_, moved := f.changes.Next(txn)
	<-moved
	changes, _ := f.changes.Next(txn)
	for c := range changes {
		tell(c.Object, c.Deleted)
	}
	f.told = now
}
