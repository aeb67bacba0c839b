// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// hostAddr is an address of the node itself.
type hostAddr struct {
	Addr   netip.Addr
	Subnet bool // by it the node answers for a whole subnet
}

func newHostAddrs(db *statedb.DB) (statedb.RWTable[hostAddr], error) {
	return newTable(db, "host-addresses", []string{"Address"}, hostAddrKey,
		func(a hostAddr) []string { return []string{a.Addr.String()} })
}

func hostAddrKey(a hostAddr) string { return a.Addr.String() }

// ReplaceHostAddrs makes the node's own addresses exactly those given, and those by
// which it answers for whole subnets.
func (t *Tables) ReplaceHostAddrs(own []netip.Addr, subnets ...netip.Addr) (model.Revision, error) {
	rows := make([]hostAddr, 0, len(own)+len(subnets))
	for _, a := range own {
		rows = append(rows, hostAddr{Addr: a.Unmap().WithZone("")})
	}
	for _, a := range subnets {
		rows = append(rows, hostAddr{Addr: a.Unmap().WithZone(""), Subnet: true})
	}
	return t.edit([]statedb.TableMeta{t.hostAddrs}, func(txn statedb.WriteTxn) (bool, error) {
		return replaceAll(txn, t.hostAddrs, rows, hostAddrKey)
	})
}

// HostAddrs lists the node's own addresses.
func (t *Tables) HostAddrs() []netip.Addr {
	var out []netip.Addr
	for a := range t.hostAddrs.All(t.db.ReadTxn()) {
		out = append(out, a.Addr)
	}
	return out
}
