// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
)

func portPod(name string, attachment uint32, ports ...model.HostPort) model.PortPod {
	last := byte(attachment)
	v6 := netip.MustParseAddr("fd00::").As16()
	v6[15] = last
	return model.PortPod{Pod: model.PodKey{Namespace: "demo", Name: name}, Attachment: attachment,
		IPv4: netip.AddrFrom4([4]byte{10, 244, 0, last}), IPv6: netip.AddrFrom16(v6), Ports: ports}
}

func hostAddrs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
}

func tcpPort(port, podPort uint16) model.HostPort {
	return model.HostPort{Protocol: model.ProtoTCP, Port: port, PodPort: podPort}
}

// leads tells where each address and port leads, by the rows.
func leads(t *testing.T, ch model.ServiceChanges) map[string]string {
	t.Helper()
	slots, backends := make(map[uint32][]uint32), make(map[uint32]model.BackendRow)
	for _, s := range ch.Slots {
		slots[s.Service] = s.Backends
	}
	for _, b := range ch.Backends {
		backends[b.ID] = b
	}
	out := make(map[string]string)
	for _, f := range ch.Frontends {
		table := slots[f.Service]
		if len(table) != int(f.Slots) || len(table) != 1 {
			t.Fatalf("front end %+v has slots %v", f, table)
		}
		if f.HostOnly != f.Addr.IsLoopback() || f.HostPort == f.HostOnly {
			t.Errorf("flags of %+v", f)
		}
		b := backends[table[0]]
		out[netip.AddrPortFrom(f.Addr, f.Port).String()] = netip.AddrPortFrom(b.Addr, b.Port).String()
	}
	return out
}

func TestHostPortAtEveryAddress(t *testing.T) {
	var c Compiler
	got := leads(t, c.Update(Changes{HostAddrs: hostAddrs(), HostPorts: []model.PortPod{portPod("web", 1, tcpPort(8080, 80))}}))
	want := map[string]string{"192.0.2.1:8080": "10.244.0.1:80", "127.0.0.1:8080": "10.244.0.1:80",
		"[2001:db8::1]:8080": "[fd00::1]:80", "[::1]:8080": "[fd00::1]:80"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("leads: %v", got)
	}
	if p := c.HostPorts(); len(p) != 1 || p[0].Reason != "" || !p[0].Served() {
		t.Errorf("told: %+v", p)
	}
	// Gone, all of it goes.
	if ch := c.Update(Changes{HostAddrs: hostAddrs()}); len(ch.GoneFrontends) != 4 || len(ch.GoneSlots) != 2 || len(ch.GoneBackends) != 2 {
		t.Errorf("gone: %+v", ch)
	}
}

func TestHostPortAtOneAddress(t *testing.T) {
	for ip, want := range map[string][]string{
		"0.0.0.0":     {"192.0.2.1:8080", "127.0.0.1:8080"},
		"::":          {"[2001:db8::1]:8080", "[::1]:8080"},
		"192.0.2.1":   {"192.0.2.1:8080"},
		"127.0.0.1":   {"127.0.0.1:8080"},
		"203.0.113.9": nil,
	} {
		hp := tcpPort(8080, 80)
		hp.Addr = netip.MustParseAddr(ip)
		var c Compiler
		got := leads(t, c.Update(Changes{HostAddrs: hostAddrs(), HostPorts: []model.PortPod{portPod("web", 1, hp)}}))
		for _, at := range want {
			if got[at] == "" {
				t.Errorf("hostIP %s: nothing at %s", ip, at)
			}
		}
		if len(got) != len(want) || (c.HostPorts()[0].Reason == "") != (len(want) > 0) {
			t.Errorf("hostIP %s: %v, told %q", ip, got, c.HostPorts()[0].Reason)
		}
	}
}

// Of pods that claim one port the one that was attached first has it, whatever the
// order in which they are told; when it goes the next one gets it.
func TestHostPortThatTwoPodsClaim(t *testing.T) {
	pods := []model.PortPod{portPod("a", 7, tcpPort(8080, 80)), portPod("b", 3, tcpPort(8080, 81)), portPod("c", 9, tcpPort(8080, 82))}
	for seed := range uint64(10) {
		mixed := slices.Clone(pods)
		rand.New(rand.NewPCG(seed, 1)).Shuffle(3, func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		var c Compiler
		if got := leads(t, c.Update(Changes{HostAddrs: hostAddrs(), HostPorts: mixed})); got["192.0.2.1:8080"] != "10.244.0.3:81" {
			t.Fatalf("seed %d: %v", seed, got)
		}
		for _, p := range c.HostPorts()[1:] {
			if p.Served() || !strings.Contains(p.Reason, "demo/b had it first") {
				t.Errorf("%s is told %q", p.Pod, p.Reason)
			}
		}
		left := slices.DeleteFunc(mixed, func(p model.PortPod) bool { return p.Pod.Name == "b" })
		if got := leads(t, c.Update(Changes{HostAddrs: hostAddrs(), HostPorts: left})); got["192.0.2.1:8080"] != "10.244.0.7:80" {
			t.Fatalf("seed %d, after b: %v", seed, got)
		}
	}
}

// A service that has the address and port comes before, also one that came later.
func TestServiceBeforeHostPort(t *testing.T) {
	var c Compiler
	in := Changes{HostAddrs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, HostPorts: []model.PortPod{portPod("web", 1, tcpPort(80, 80))}}
	c.Update(in)
	in.Services, in.Slices = []model.Service{webService()}, []model.EndpointSlice{webSlice("a", up("10.0.0.1"))}
	ch := c.Update(in)
	i := slices.IndexFunc(ch.Frontends, func(f model.FrontendRow) bool { return f.Addr == in.HostAddrs[0] })
	if i < 0 || ch.Frontends[i].HostPort || !strings.Contains(c.HostPorts()[0].Reason, "service demo/web") {
		t.Fatalf("rows %+v, told %q", ch.Frontends, c.HostPorts()[0].Reason)
	}
	ch = c.Update(Changes{HostAddrs: in.HostAddrs, HostPorts: in.HostPorts, GoneServices: []model.ServiceKey{webService().ServiceKey}})
	i = slices.IndexFunc(ch.Frontends, func(f model.FrontendRow) bool { return f.Addr == in.HostAddrs[0] })
	if i < 0 || !ch.Frontends[i].HostPort || slices.Contains(ch.GoneFrontends, ch.Frontends[i].FrontendKey) {
		t.Errorf("after the service: %+v", ch)
	}
}

// SCTP's port cannot change; where it need not, it is served.
func TestHostPortOfSCTP(t *testing.T) {
	for podPort, served := range map[uint16]bool{80: false, 8080: true} {
		hp := model.HostPort{Protocol: model.ProtoSCTP, Port: 8080, PodPort: podPort}
		var c Compiler
		c.Update(Changes{HostAddrs: hostAddrs(), HostPorts: []model.PortPod{portPod("web", 1, hp)}})
		if p := c.HostPorts()[0]; p.Served() != served || (p.Reason == "") != served {
			t.Errorf("to port %d: %+v", podPort, p)
		}
	}
}

// A pod's backend keeps its number over a restart, and a pod that is attached anew
// with the same address has another.
func TestNumbersOfHostPorts(t *testing.T) {
	backend := func(c *Compiler, pod model.PortPod) uint32 {
		ch := c.Update(Changes{HostAddrs: hostAddrs()[:1], HostPorts: []model.PortPod{pod}})
		return ch.Backends[0].ID
	}
	pod := portPod("web", 1, tcpPort(8080, 80))
	pod.IPv6 = netip.Addr{}
	var first, second Compiler
	number := backend(&first, pod)
	second.Adopt([]model.BackendRow{{ID: 4711, Addr: pod.IPv4, Port: 80, Protocol: model.ProtoTCP}})
	if got := backend(&second, pod); got != 4711 {
		t.Errorf("adopted as %d", got)
	}
	again := pod
	again.Attachment = 2
	if got := backend(&first, again); got == number {
		t.Errorf("another attachment has the same number %d", got)
	}
}
