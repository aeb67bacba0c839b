// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

func webService() model.Service {
	return model.Service{
		ServiceKey: model.ServiceKey{Namespace: "demo", Name: "web"}, Type: model.ServiceClusterIP,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")},
		Ports:      []model.ServicePort{{Name: "http", Protocol: model.ProtoTCP, Port: 80, TargetName: "web"}},
	}
}

func webSlice(name string, backends ...model.Backend) model.EndpointSlice {
	return model.EndpointSlice{
		EndpointSliceKey: model.EndpointSliceKey{Namespace: "demo", Name: name},
		Service:          model.ServiceKey{Namespace: "demo", Name: "web"},
		Ports:            []model.EndpointPort{{Name: "http", Protocol: model.ProtoTCP, Port: 8080}},
		Backends:         backends,
	}
}

func up(addr string) model.Backend {
	return model.Backend{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true}
}

func compileWeb(s model.Service, all ...model.EndpointSlice) Output {
	var c Compiler
	c.Node = "node-1"
	return whole(&c, Inputs{Services: []model.Service{s}, Slices: all})
}

func TestBackendsByStateAndFamily(t *testing.T) {
	leaving := up("10.0.0.2")
	leaving.Ready, leaving.Terminating = false, true
	down := up("10.0.0.3")
	down.Ready, down.Serving = false, false
	out := compileWeb(webService(), webSlice("a", up("10.0.0.1"), leaving, down), webSlice("b", up("fd00::a"), leaving))
	if len(out.Frontends) != 2 || len(out.Backends) != 4 || len(out.Slots) != 2 {
		t.Fatalf("rows: %+v", out)
	}
	v4, v6 := out.Services[0].Frontends[0], out.Services[0].Frontends[1]
	var states []State
	for _, b := range v4.Backends {
		states = append(states, b.State)
	}
	if !slices.Equal(states, []State{Ready, Terminating, NotReady}) || v4.Active() != 1 || v6.Active() != 1 {
		t.Errorf("states %v", states)
	}
	for _, f := range out.Frontends {
		i := slices.IndexFunc(out.Slots, func(s model.SlotTable) bool { return s.Service == f.Service })
		if f.Slots != 1 || i < 0 || len(out.Slots[i].Backends) != 1 {
			t.Errorf("front end %+v: %+v", f, out.Slots)
		}
	}
	want := map[netip.Addr]model.BackendState{leaving.Addr: model.BackendDraining, down.Addr: model.BackendUnready}
	for _, b := range out.Backends {
		if b.Port != 8080 || b.State != want[b.Addr] {
			t.Errorf("backend %+v", b)
		}
	}
}

func TestReasonsWhyAServiceIsNotServed(t *testing.T) {
	down := model.Backend{Addr: netip.MustParseAddr("10.0.0.1")}
	change := func(do func(*model.Service)) model.Service {
		s := webService()
		do(&s)
		return s
	}
	for _, tc := range []struct {
		service model.Service
		slices  []model.EndpointSlice
		want    string
	}{
		{webService(), nil, "no EndpointSlice names it (label kubernetes.io/service-name)"},
		{webService(), []model.EndpointSlice{webSlice("a")}, "have no IPv4 endpoint for this port"},
		{webService(), []model.EndpointSlice{webSlice("a", down)}, "none of its 1 IPv4 endpoints is ready"},
		{webService(), []model.EndpointSlice{webSlice("a", up("10.0.0.1"))}, ""},
		{change(func(s *model.Service) { s.PublishNotReady = true }), []model.EndpointSlice{webSlice("a", down)}, ""},
		{change(func(s *model.Service) { s.InternalLocal = true }), []model.EndpointSlice{webSlice("a", up("10.0.0.1"))}, "is on this node"},
		{change(func(s *model.Service) { s.Type = model.ServiceExternalName }), nil, "ExternalName"},
		{change(func(s *model.Service) { s.ClusterIPs = nil }), nil, "headless"},
		{change(func(s *model.Service) { s.Ports = nil }), nil, "no port"},
		{change(func(s *model.Service) { s.Ports[0].Protocol = model.ProtoSCTP }), nil, "only TCP and UDP"},
	} {
		got := compileWeb(tc.service, tc.slices...).Services[0].Reason
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("reason %q, want %q", got, tc.want)
		}
	}
}

func TestNobodyServesIsARowWithoutSlots(t *testing.T) {
	out := compileWeb(webService())
	if len(out.Frontends) != 2 || out.Frontends[0].Slots != 0 || len(out.Slots) != 0 {
		t.Errorf("%+v", out)
	}
}

func TestTheFirstServiceKeepsAnAddress(t *testing.T) {
	first, second := webService(), webService()
	second.Name = "zweb"
	var c Compiler
	out := whole(&c, Inputs{Services: []model.Service{second, first}, Slices: []model.EndpointSlice{webSlice("a", up("10.0.0.1"))}})
	if got := out.Services[1].Reason; !strings.Contains(got, "demo/web has the same address and port") {
		t.Errorf("reason %q", got)
	}
	if len(out.Frontends) != 2 || out.Frontends[0].Slots != 1 {
		t.Errorf("rows %+v", out.Frontends)
	}
}

func TestAffinityTakesAMaglevTable(t *testing.T) {
	s := webService()
	s.Affinity = time.Hour
	out := compileWeb(s, webSlice("a", up("10.0.0.1"), up("10.0.0.2")))
	f := out.Frontends[0]
	if !f.Maglev || f.Slots != smallTable || f.Affinity != time.Hour || out.Services[0].Frontends[0].Algorithm != Table {
		t.Errorf("%+v", f)
	}
}

// Whatever the order of the input, and whether it is the first compilation or a
// later one, the rows are the same.
func TestOrderDecidesNothing(t *testing.T) {
	second := webService()
	second.Name, second.ClusterIPs = "other", []netip.Addr{netip.MustParseAddr("10.96.0.2")}
	in := Inputs{
		Services: []model.Service{webService(), second},
		Slices:   []model.EndpointSlice{webSlice("a", up("10.0.0.1"), up("10.0.0.2")), webSlice("b", up("10.0.0.3"), up("fd00::2"))},
	}
	var c Compiler
	want := whole(&c, in)
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		random.Shuffle(len(in.Services), func(i, j int) { in.Services[i], in.Services[j] = in.Services[j], in.Services[i] })
		random.Shuffle(len(in.Slices), func(i, j int) { in.Slices[i], in.Slices[j] = in.Slices[j], in.Slices[i] })
		backends := in.Slices[0].Backends
		random.Shuffle(len(backends), func(i, j int) { backends[i], backends[j] = backends[j], backends[i] })
		var fresh Compiler
		for _, compiler := range []*Compiler{&c, &fresh} {
			if got := whole(compiler, in); !reflect.DeepEqual(got, want) {
				t.Fatalf("got\n%+v\nwant\n%+v", got, want)
			}
		}
	}
}

// A number stands for one pod at one address, and outlives the agent.
func TestNumbersOfBackends(t *testing.T) {
	first, second := up("10.0.0.1"), up("10.0.0.1")
	first.Pod, second.Pod = model.PodKey{Namespace: "demo", Name: "one"}, model.PodKey{Namespace: "demo", Name: "two"}
	number := func(c *Compiler, b model.Backend) uint32 {
		t.Helper()
		out := whole(c, Inputs{Services: []model.Service{webService()}, Slices: []model.EndpointSlice{webSlice("a", b)}})
		if len(out.Backends) != 1 {
			t.Fatalf("backends: %+v", out.Backends)
		}
		return out.Backends[0].ID
	}
	var c Compiler
	one := number(&c, first)
	if two := number(&c, second); two == one {
		t.Errorf("the address has passed to another pod, but its number is still %d", one)
	}
	if again := number(&c, first); again != one {
		t.Errorf("the same pod again has number %d, not %d", again, one)
	}
	var next Compiler
	next.Adopt([]model.BackendRow{{ID: 77, Addr: first.Addr, Port: 8080, Protocol: model.ProtoTCP}})
	if kept := number(&next, second); kept != 77 {
		t.Errorf("the kernel knows the backend as 77, the next agent as %d", kept)
	}
	if first := number(&next, first); first == 77 {
		t.Error("the number outlived the pod that it was taken over for")
	}
}

// Two services name one address, but not the same pod: each keeps its number,
// whatever the order in which the kernel lists them.
func TestNumbersOfOneAddressOutliveTheAgent(t *testing.T) {
	other := webService()
	other.Name, other.ClusterIPs = "other", []netip.Addr{netip.MustParseAddr("10.96.0.2")}
	named, bare := up("10.0.0.1"), up("10.0.0.1")
	named.Pod = model.PodKey{Namespace: "demo", Name: "one"}
	in := Inputs{Services: []model.Service{webService(), other}, Slices: []model.EndpointSlice{webSlice("a", named), webSlice("b", bare)}}
	in.Slices[1].Service.Name = "other"
	var c Compiler
	first := whole(&c, in)
	if len(first.Backends) != 2 {
		t.Fatalf("backends: %+v", first.Backends)
	}
	for range 2 {
		var next Compiler
		next.Adopt(first.Backends)
		if again := whole(&next, in); !slices.Equal(again.Slots[0].Backends, first.Slots[0].Backends) ||
			!slices.Equal(again.Slots[1].Backends, first.Slots[1].Backends) {
			t.Errorf("slots %+v, after a restart %+v", first.Slots, again.Slots)
		}
		slices.Reverse(first.Backends)
	}
}

// A backend that leaves one service and stays in another is gone for the callers of
// the first: those with affinity, and sockets, ask for its number.
func TestABackendLeavesOneOfItsServices(t *testing.T) {
	other := webService()
	other.Name, other.ClusterIPs = "other", []netip.Addr{netip.MustParseAddr("10.96.0.2")}
	pod, rest := up("10.0.0.1"), up("10.0.0.2")
	pod.Pod = model.PodKey{Namespace: "demo", Name: "one"}
	in := Inputs{Services: []model.Service{webService(), other}, Slices: []model.EndpointSlice{webSlice("a", pod), webSlice("b", pod)}}
	in.Slices[1].Service.Name = "other"
	var c Compiler
	before := whole(&c, in)
	number := func(o Output, service string) uint32 {
		for _, s := range o.Services {
			if s.Name == service {
				return s.Frontends[0].Backends[0].ID
			}
		}
		t.Fatalf("no service %s", service)
		return 0
	}
	gone, stays := number(before, "web"), number(before, "other")
	in.Slices[0] = webSlice("a", rest)
	after := whole(&c, in)
	if number(after, "other") != stays {
		t.Error("the service that keeps the backend has another number for it")
	}
	if slices.ContainsFunc(after.Backends, func(b model.BackendRow) bool { return b.ID == gone }) {
		t.Error("the number by which the other service knew it is still there")
	}
}
