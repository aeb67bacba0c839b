// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Changes is what became of services and slices since the last compilation.
type Changes struct {
	Services     []model.Service // new or changed, whole
	Slices       []model.EndpointSlice
	GoneServices []model.ServiceKey
	GoneSlices   []model.EndpointSliceKey
	// HostPorts are the pods that are to have ports of the node's, and HostAddrs the
	// node's addresses: all there are.
	HostPorts []model.PortPod
	HostAddrs []netip.Addr
}

// Compiler compiles again and again what has changed: its rows are those that a new
// one would make of everything at once, but for the numbers of services and
// backends, which it remembers. A zero value is ready.
type Compiler struct {
	Node string // this node's name, for services that stay on it; constant

	inputs   inputs
	claims   claims
	made     map[model.ServiceKey]*Service // from which its rows can be made again
	services numbers
	backends numbers
	book     *Book
	ports    []Port
}

// Update compiles the services that changes reach, and returns how the rows differ
// from what they were. No two services have a slot table or a backend in common:
// their numbers are given to a service's name.
func (c *Compiler) Update(ch Changes) model.ServiceChanges {
	if c.made == nil {
		c.made, c.book = make(map[model.ServiceKey]*Service), NewBook()
	}
	dirty := c.inputs.take(ch)
	next := c.describe(dirty)
	ports := c.hostPorts(ch.HostPorts, ch.HostAddrs)
	c.number(next, ports)
	was, now := newRowSet(), newRowSet()
	was.add(portRows(c.ports)) // where a service takes over an address, the service's rows count
	now.add(portRows(ports))
	c.ports = ports
	book := c.book.edit()
	for _, key := range sortedServices(next) {
		before, s := c.made[key], next[key]
		was.add(rowsOf(before))
		now.add(rowsOf(s))
		if c.made[key] = s; s == nil {
			delete(c.made, key)
		}
		book.replace(before, s, c.claims)
	}
	c.book = book.done()
	return was.changesTo(now)
}

// Book is the services as of the last update.
func (c *Compiler) Book() *Book {
	if c.book == nil {
		return NewBook()
	}
	return c.book
}

// HostPorts are the ports of the node that pods have, as of the last update, by age
// of their pods. They must not be changed.
func (c *Compiler) HostPorts() []Port { return c.ports }

// describe makes the services that are dirty, and those that gain or lose an
// address by them, without numbers; nil: it is gone.
func (c *Compiler) describe(dirty map[model.ServiceKey]bool) map[model.ServiceKey]*Service {
	next := make(map[model.ServiceKey]*Service, len(dirty))
	for key := range dirty {
		next[key] = c.inputs.describe(key, c.Node)
	}
	for key := range dirty {
		for _, other := range c.claims.move(key, c.made[key], next[key]) {
			if _, ok := next[other]; !ok {
				next[other] = c.inputs.describe(other, c.Node)
			}
		}
	}
	for _, s := range next {
		if s != nil {
			c.claims.settle(s)
		}
	}
	return next
}

// inputs are all services, and all slices by the service that they are a part of.
type inputs struct {
	services map[model.ServiceKey]model.Service
	slices   map[model.ServiceKey][]model.EndpointSlice
	owner    map[model.EndpointSliceKey]model.ServiceKey
}

// take enters changes, and tells which services they reach.
func (in *inputs) take(ch Changes) map[model.ServiceKey]bool {
	if in.services == nil {
		in.services = make(map[model.ServiceKey]model.Service, len(ch.Services))
		in.slices = make(map[model.ServiceKey][]model.EndpointSlice, len(ch.Slices))
		in.owner = make(map[model.EndpointSliceKey]model.ServiceKey, len(ch.Slices))
	}
	dirty := make(map[model.ServiceKey]bool)
	for _, key := range ch.GoneServices {
		delete(in.services, key)
		dirty[key] = true
	}
	for _, key := range ch.GoneSlices {
		in.forget(key, dirty)
	}
	for _, s := range ch.Services {
		in.services[s.ServiceKey] = s
		dirty[s.ServiceKey] = true
	}
	for _, s := range ch.Slices {
		in.forget(s.EndpointSliceKey, dirty)
		in.slices[s.Service] = append(in.slices[s.Service], s)
		in.owner[s.EndpointSliceKey] = s.Service
		dirty[s.Service] = true
	}
	return dirty
}

func (in *inputs) forget(slice model.EndpointSliceKey, dirty map[model.ServiceKey]bool) {
	owner, ok := in.owner[slice]
	if !ok {
		return
	}
	dirty[owner] = true
	delete(in.owner, slice)
	rest := slices.DeleteFunc(in.slices[owner], func(s model.EndpointSlice) bool { return s.EndpointSliceKey == slice })
	if in.slices[owner] = rest; len(rest) == 0 {
		delete(in.slices, owner)
	}
}

// describe makes one service of what is known of it; nil: there is none.
func (in *inputs) describe(key model.ServiceKey, node string) *Service {
	s, ok := in.services[key]
	if !ok {
		return nil
	}
	from := slices.SortedFunc(slices.Values(in.slices[key]), func(a, b model.EndpointSlice) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	v := &Service{Service: s, Reason: notOurs(s)}
	if v.Reason == "" {
		v.Frontends = frontends(s, from, node)
	}
	return v
}

func sortedServices[V any](m map[model.ServiceKey]V) []model.ServiceKey {
	return slices.SortedFunc(maps.Keys(m), compareServices)
}

func compareServices(a, b model.ServiceKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// claims are the services that want an address and port, by name: the first has it.
type claims map[model.FrontendKey][]model.ServiceKey

// move replaces what a service claims, and tells which others meet another first
// one than before.
func (c *claims) move(key model.ServiceKey, before, after *Service) (others []model.ServiceKey) {
	if *c == nil {
		*c = make(claims)
	}
	had, has := before.addresses(), after.addresses()
	for at := range had {
		if has[at] {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone((*c)[at]), func(k model.ServiceKey) bool { return k == key })
		if (*c)[at][0] == key {
			others = append(others, rest...)
		}
		if (*c)[at] = rest; len(rest) == 0 {
			delete(*c, at)
		}
	}
	for at := range has {
		if had[at] {
			continue
		}
		all := append(slices.Clone((*c)[at]), key)
		slices.SortFunc(all, compareServices)
		if (*c)[at] = all; all[0] == key {
			others = append(others, all[1:]...)
		}
	}
	return others
}

// settle tells a service which of its front ends another one has.
func (c claims) settle(s *Service) {
	own := make(map[model.FrontendKey]bool, len(s.Frontends))
	for i := range s.Frontends {
		f := &s.Frontends[i]
		first := c[f.FrontendKey][0]
		if f.taken = first != s.ServiceKey || own[f.FrontendKey]; f.taken {
			f.Reason = fmt.Sprintf("service %s has the same address and port", first)
		}
		own[f.FrontendKey] = true
	}
	if s.Reason == "" {
		s.Reason = reasonOf(s.Frontends)
	}
}

// addresses are those that a service claims; none, if it is not there.
func (s *Service) addresses() map[model.FrontendKey]bool {
	if s == nil {
		return nil
	}
	out := make(map[model.FrontendKey]bool, len(s.Frontends))
	for _, f := range s.Frontends {
		out[f.FrontendKey] = true
	}
	return out
}
