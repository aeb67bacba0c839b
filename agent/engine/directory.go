// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
)

// claim is an endpoint of another node's slice that is said to have an address.
type claim struct {
	slice *model.NodeSlice
	at    uint32
}

func (c claim) endpoint() *model.NodeEndpoint { return &c.slice.Endpoints[c.at] }

// owner is the claim to an address that counts, and the identity that the address
// leads to: none, while sets know neither the endpoint's nor one it had before.
type owner struct {
	addr netip.Addr
	claim
	identity model.IdentityID
}

// directoryParts is how many parts a directory has. Addresses that differ only in
// their last byte are in the same, so that a slice's are in few.
const directoryParts = 512

// directory says which pod of another node has an address. It never changes: an edit
// makes another one, which shares what stayed.
type directory struct {
	parts [directoryParts][]owner // each sorted by address
}

func part(a netip.Addr) int {
	b := a.As16()
	h := binary.BigEndian.Uint64(b[:8])*31 + binary.BigEndian.Uint64(b[8:])>>8
	return int(h * 0x9e3779b97f4a7c15 >> 55) // 9 bits
}

// find looks an address up; the owner must not be changed.
func (d *directory) find(a netip.Addr) (*owner, bool) {
	list := d.parts[part(a)]
	i, ok := search(list, a)
	if !ok {
		return nil, false
	}
	return &list[i], true
}

func search(list []owner, a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(list, a, func(o owner, a netip.Addr) int { return o.addr.Compare(a) })
}

// Workload implements flow.Others.
func (d *directory) Workload(a netip.Addr) (flow.Workload, bool) {
	o, ok := d.find(a)
	if !ok || o.identity == model.IdentityNone {
		return flow.Workload{}, false
	}
	e := o.endpoint()
	return flow.Workload{Pod: e.Pod, Identity: o.identity, Owner: e.Workload}, true
}

// each calls do with every address.
func (d *directory) each(do func(*owner)) {
	for i := range d.parts {
		for j := range d.parts[i] {
			do(&d.parts[i][j])
		}
	}
}

// directoryEdit is a directory that is being written: of the one before, only the
// parts that change are copied.
type directoryEdit struct {
	directory
	own [directoryParts]bool
}

func (d *directory) edit() *directoryEdit { return &directoryEdit{directory: *d} }

// done ends the edit.
func (e *directoryEdit) done() *directory { return &e.directory }

func (e *directoryEdit) owned(p int) []owner {
	if !e.own[p] {
		e.own[p], e.parts[p] = true, slices.Clone(e.parts[p])
	}
	return e.parts[p]
}

func (e *directoryEdit) set(o owner) {
	p := part(o.addr)
	list := e.owned(p)
	if i, ok := search(list, o.addr); ok {
		list[i] = o
	} else {
		e.parts[p] = slices.Insert(list, i, o)
	}
}

func (e *directoryEdit) drop(a netip.Addr) {
	p := part(a)
	list := e.owned(p)
	if i, ok := search(list, a); ok {
		e.parts[p] = slices.Delete(list, i, i+1)
	}
}
