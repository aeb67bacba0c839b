// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"strconv"

	"github.com/weftmesh/weft/pkg/model"
)

// number fills in the numbers of services, of pods' ports and of their backends, and
// frees those of what these had before and have no more.
func (c *Compiler) number(next map[model.ServiceKey]*Service, own []Port) {
	var ports, targets renamed
	had, has := portNames(c.ports), portNames(own)
	ports.add(had, has)
	targets.add(had, has)
	for key, s := range next {
		had, has := namesOf(c.made[key]), namesOf(s)
		ports.add(had.ports, has.ports)
		targets.add(had.targets, has.targets)
	}
	c.services.update(ports.fresh, ports.gone)
	c.backends.update(targets.fresh, targets.gone)
	for i := range own {
		for j := range own[i].fronts {
			f := &own[i].fronts[j]
			f.service, f.backend = c.services.of(f.name), c.backends.of(f.name)
		}
	}
	for _, s := range next {
		if s == nil {
			continue
		}
		for i := range s.Frontends {
			f := &s.Frontends[i]
			f.Number = c.services.of(portKey(s, f))
			for j, b := range f.Backends {
				f.Backends[j].ID = c.backends.of(targetKey(s, f, b))
			}
		}
	}
}

// names are those of one service that have numbers: no other service's are among
// them.
type names struct{ ports, targets map[string]bool }

func namesOf(s *Service) names {
	n := names{ports: make(map[string]bool), targets: make(map[string]bool)}
	if s == nil {
		return n
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		n.ports[portKey(s, f)] = true
		for _, b := range f.Backends {
			n.targets[targetKey(s, f, b)] = true
		}
	}
	return n
}

// renamed gathers the names that come and go.
type renamed struct{ fresh, gone []string }

func (r *renamed) add(had, has map[string]bool) {
	for name := range has {
		if !had[name] {
			r.fresh = append(r.fresh, name)
		}
	}
	for name := range had {
		if !has[name] {
			r.gone = append(r.gone, name)
		}
	}
}

// portKey names a port of a service in one family: what shares a slot table.
func portKey(s *Service, f *Frontend) string {
	return s.ServiceKey.String() + "/" + strconv.Itoa(int(f.Protocol)) + "/" + strconv.Itoa(int(f.Port)) +
		"/" + strconv.FormatBool(f.Addr.Is4())
}

// targetKey names a backend of a service: an address that passes to another pod is
// another one, and so is the same pod behind another service. Who was sent to it by
// a service that it has left must not find it alive by the other.
func targetKey(s *Service, f *Frontend, b Backend) string {
	return placeOf(f.Protocol, b.Addr) + " " + b.Pod.String() + " " + s.ServiceKey.String()
}

// placeOf is the part of a backend's name that the kernel holds.
func placeOf(protocol uint8, at netip.AddrPort) string {
	return strconv.Itoa(int(protocol)) + "/" + at.String()
}

// Adopt takes over the numbers that the kernel knows backends by, before the first
// update: what is in force keeps its number, also when an agent of another release
// gave it.
func (c *Compiler) Adopt(held []model.BackendRow) {
	c.backends.adopted = make(map[string][]uint32, len(held))
	for _, b := range held {
		place := placeOf(b.Protocol, netip.AddrPortFrom(b.Addr, b.Port))
		c.backends.adopted[place] = append(c.backends.adopted[place], b.ID)
	}
}
