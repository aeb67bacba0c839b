// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"encoding/binary"
	"iter"

	"github.com/cilium/statedb/part"

	"github.com/weftmesh/weft/pkg/model"
)

// Book is the services of one compilation in the terms of people. It never
// changes: the next compilation's is another one, which shares what stayed.
type Book struct {
	services part.Tree[*Service]             // by namespace and name
	numbers  part.Tree[model.ServicePortKey] // by the numbers of front ends
	addrs    part.Tree[model.ServicePortKey] // of the first that wants the address
}

// NewBook makes an empty book.
func NewBook() *Book {
	return &Book{services: part.New[*Service](part.RootOnlyWatch),
		numbers: part.New[model.ServicePortKey](part.RootOnlyWatch),
		addrs:   part.New[model.ServicePortKey](part.RootOnlyWatch)}
}

// Len is the number of services.
func (b *Book) Len() int { return b.services.Len() }

// All lists the services by namespace and name. They must not be changed.
func (b *Book) All() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		all := b.services.Iterator()
		for _, s, ok := all.Next(); ok; _, s, ok = all.Next() {
			if !yield(s) {
				return
			}
		}
	}
}

// Service is the service's port that flow events name by a number.
func (b *Book) Service(number uint32) (model.ServicePortKey, bool) {
	port, _, ok := b.numbers.Get(numberKey(number))
	return port, ok
}

// Frontend is the service's port at an address.
func (b *Book) Frontend(at model.FrontendKey) (model.ServicePortKey, bool) {
	port, _, ok := b.addrs.Get(addrKey(at))
	return port, ok
}

func serviceKey(k model.ServiceKey) []byte { return []byte(k.Namespace + "\x00" + k.Name) }

func numberKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func addrKey(k model.FrontendKey) []byte {
	addr := k.Addr.As16()
	return append(binary.BigEndian.AppendUint16(addr[:], k.Port), k.Protocol)
}

// edit is a book that is being written.
type edit struct {
	services *part.Txn[*Service]
	numbers  *part.Txn[model.ServicePortKey]
	addrs    *part.Txn[model.ServicePortKey]
}

func (b *Book) edit() edit {
	return edit{services: b.services.Txn(), numbers: b.numbers.Txn(), addrs: b.addrs.Txn()}
}

func (e edit) done() *Book {
	return &Book{services: e.services.CommitAndNotify(), numbers: e.numbers.CommitAndNotify(),
		addrs: e.addrs.CommitAndNotify()}
}

// replace enters what a service has become, nil if it is not there, and who has the
// addresses that it wanted or wants.
func (e edit) replace(before, after *Service, claims claims) {
	if before != nil {
		e.services.Delete(serviceKey(before.ServiceKey))
		for _, f := range before.Frontends {
			e.numbers.Delete(numberKey(f.Number))
			e.owner(f.FrontendKey, claims)
		}
	}
	if after != nil {
		e.services.Insert(serviceKey(after.ServiceKey), after)
		for _, f := range after.Frontends {
			e.numbers.Insert(numberKey(f.Number), model.ServicePortKey{Service: after.ServiceKey, Port: f.Port})
			e.owner(f.FrontendKey, claims)
		}
	}
}

func (e edit) owner(at model.FrontendKey, claims claims) {
	if who := claims[at]; len(who) > 0 {
		e.addrs.Insert(addrKey(at), model.ServicePortKey{Service: who[0], Port: at.Port})
		return
	}
	e.addrs.Delete(addrKey(at))
}
