// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// Inputs is everything a compiler is to know.
type Inputs struct {
	Services []model.Service
	Slices   []model.EndpointSlice
}

// Output is everything a compiler has made.
type Output struct {
	Frontends []model.FrontendRow
	Slots     []model.SlotTable
	Backends  []model.BackendRow
	Services  []Service
}

// whole brings a compiler to the inputs, and tells all that it has made.
func whole(c *Compiler, in Inputs) (out Output) {
	ch := Changes{Services: in.Services, Slices: in.Slices}
	for key := range c.inputs.services {
		if !slices.ContainsFunc(in.Services, func(s model.Service) bool { return s.ServiceKey == key }) {
			ch.GoneServices = append(ch.GoneServices, key)
		}
	}
	for key := range c.inputs.owner {
		if !slices.ContainsFunc(in.Slices, func(s model.EndpointSlice) bool { return s.EndpointSliceKey == key }) {
			ch.GoneSlices = append(ch.GoneSlices, key)
		}
	}
	c.Update(ch)
	return all(c)
}

func all(c *Compiler) (out Output) {
	rows := newRowSet()
	for _, s := range c.made {
		rows.add(rowsOf(s))
	}
	made := newRowSet().changesTo(rows)
	out.Frontends, out.Slots, out.Backends = made.Frontends, made.Slots, made.Backends
	for s := range c.Book().All() {
		out.Services = append(out.Services, *s)
	}
	return out
}

// however services, slices, addresses and backends come, go and pass from one to
// another, a compiler that is told only what changes has made what a new one makes
// of everything, and the changes that it told lead there.
func TestWhatChangedIsAllThatIsCompiled(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 9))
		var c Compiler
		told, services, parts := newRowSet(), map[string]model.Service{}, map[string]model.EndpointSlice{}
		for round := range 30 {
			ch := randomChange(random, services, parts)
			enter(told, c.Update(ch))
			var in Inputs
			for _, s := range services {
				in.Services = append(in.Services, s)
			}
			for _, s := range parts {
				in.Slices = append(in.Slices, s)
			}
			var fresh Compiler
			want, got := whole(&fresh, in), all(&c)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("seed %d, round %d: after %+v\n%+v\nwant\n%+v", seed, round, ch, got, want)
			}
			rest := newRowSet()
			for _, s := range c.made {
				rest.add(rowsOf(s))
			}
			if !reflect.DeepEqual(told, rest) {
				t.Fatalf("seed %d, round %d: the changes lead to\n%+v\nwant\n%+v", seed, round, told, rest)
			}
			checkNames(t, c.Book(), want.Services)
		}
	}
}

// checkNames asks the book for every number and address.
func checkNames(t *testing.T, b *Book, services []Service) {
	t.Helper()
	addrs := map[model.FrontendKey]model.ServicePortKey{}
	for _, s := range services {
		for _, f := range s.Frontends {
			want := model.ServicePortKey{Service: s.ServiceKey, Port: f.Port}
			if got, ok := b.Service(f.Number); !ok || got != want {
				t.Errorf("number %d is %v, want %v", f.Number, got, want)
			}
			if _, taken := addrs[f.FrontendKey]; !taken {
				addrs[f.FrontendKey] = want
			}
		}
	}
	for at, want := range addrs {
		if got, ok := b.Frontend(at); !ok || got != want {
			t.Errorf("at %s is %v, want %v", at, got, want)
		}
	}
	if b.addrs.Len() != len(addrs) {
		t.Errorf("the book has %d addresses, the services %d", b.addrs.Len(), len(addrs))
	}
}

func enter(told rowSet, ch model.ServiceChanges) {
	for _, k := range ch.GoneFrontends {
		delete(told.frontends, k)
	}
	for _, k := range ch.GoneSlots {
		delete(told.slots, k)
	}
	for _, k := range ch.GoneBackends {
		delete(told.backends, k)
	}
	told.add(rows{frontends: ch.Frontends, slots: ch.Slots, backends: ch.Backends})
}

// randomChange changes up to three objects of four services that have three
// addresses between them, and of five slices that pass from one to another.
func randomChange(random *rand.Rand, services map[string]model.Service, parts map[string]model.EndpointSlice) (ch Changes) {
	for _, n := range random.Perm(4)[:random.IntN(3)] {
		name := fmt.Sprint("svc-", n)
		key := model.ServiceKey{Namespace: "demo", Name: name}
		if random.IntN(3) == 0 {
			delete(services, name)
			ch.GoneServices = append(ch.GoneServices, key)
			continue
		}
		s := model.Service{ServiceKey: key, Type: model.ServiceClusterIP}
		for _, addr := range []string{"10.96.0.1", "10.96.0.2", "fd00::1"} {
			if random.IntN(2) == 0 {
				s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr(addr))
			}
		}
		for _, port := range []uint16{80, 81, 81}[:1+random.IntN(3)] {
			s.Ports = append(s.Ports, model.ServicePort{Name: "http", Port: port,
				Protocol: []uint8{model.ProtoTCP, model.ProtoSCTP}[random.IntN(5)/4]})
		}
		if random.IntN(8) == 0 {
			s.Affinity = time.Hour
		}
		services[name] = s
		ch.Services = append(ch.Services, s)
	}
	for _, n := range random.Perm(5)[:random.IntN(3)] {
		name := fmt.Sprint("slice-", n)
		key := model.EndpointSliceKey{Namespace: "demo", Name: name}
		if random.IntN(4) == 0 {
			delete(parts, name)
			ch.GoneSlices = append(ch.GoneSlices, key)
			continue
		}
		s := webSlice(name)
		s.Service.Name = fmt.Sprint("svc-", random.IntN(4))
		for b := range random.IntN(4) {
			s.Backends = append(s.Backends, model.Backend{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(b)}),
				Ready: random.IntN(2) == 0, Serving: true, Terminating: random.IntN(3) == 0,
				Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprint(random.IntN(2))}})
		}
		parts[name] = s
		ch.Slices = append(ch.Slices, s)
	}
	return ch
}
