// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/model"
)

// frontendAt is a front end at 10.96.0.n or fd00:96::n, port 53.
func frontendAt(n byte, v6 bool, protocol uint8, slots uint32) model.FrontendRow {
	addr := netip.AddrFrom4([4]byte{10, 96, 0, n})
	if v6 {
		addr = netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x96, 15: n})
	}
	return model.FrontendRow{FrontendKey: model.FrontendKey{Addr: addr, Port: 53, Protocol: protocol},
		Service: uint32(n), Slots: slots}
}

// putService leads a front end to backends that are written first.
func putService(t *testing.T, d *Datapath, f model.FrontendRow, backends ...model.BackendRow) {
	t.Helper()
	table := model.SlotTable{Service: f.Service}
	for _, b := range backends {
		table.Backends = append(table.Backends, b.ID)
	}
	f.Slots = uint32(len(backends))
	must(t, errors.Join(d.ApplyBackends(backends), d.ApplySlots(table), d.ApplyFrontends([]model.FrontendRow{f})))
}

func TestAFullMapSaysSo(t *testing.T) {
	d := open(t, Config{})
	rows := make([]model.BackendRow, d.maps.WeftBackend.MaxEntries()+1)
	for i := range rows {
		rows[i] = model.BackendRow{ID: uint32(i + 1), Addr: netip.MustParseAddr("10.0.0.1"), Port: 80, Protocol: model.ProtoTCP}
	}
	if err := d.ApplyBackends(rows); err == nil || !strings.Contains(err.Error(), "the map is full, it has room for 131072") {
		t.Errorf("one too many: %v", err)
	}
}

func TestServiceRowsReadBack(t *testing.T) {
	d := open(t, Config{})
	frontends := []model.FrontendRow{frontendAt(1, false, model.ProtoTCP, 3), frontendAt(2, true, model.ProtoUDP, 0)}
	frontends[0].Affinity, frontends[0].Maglev = time.Hour, true
	backends := []model.BackendRow{
		{ID: 7, Addr: netip.MustParseAddr("10.0.0.1"), Port: 8080, Protocol: model.ProtoTCP},
		{ID: 9, Addr: netip.MustParseAddr("fd00::1"), Port: 8080, Protocol: model.ProtoUDP, State: model.BackendDraining},
	}
	want := model.ServiceRows{Frontends: frontends, Backends: backends, Slots: map[uint32][]uint32{1: {7, 9, 7}}}
	for range 2 { // writing again changes nothing
		must(t, errors.Join(d.ApplyBackends(backends), d.ApplyFrontends(frontends),
			d.ApplySlots(model.SlotTable{Service: 1, Backends: []uint32{7, 9, 7}})))
		readsBack(t, d, want)
	}
	must(t, d.Close())
	d = reopen(t, Config{})
	readsBack(t, d, want)
	for range 2 { // removing what is not there is no error
		must(t, errors.Join(d.TrimSlots(1, 1, 3), d.DeleteFrontends([]model.FrontendKey{frontends[0].FrontendKey}),
			d.DeleteBackends([]uint32{9})))
	}
	readsBack(t, d, model.ServiceRows{Frontends: frontends[1:], Backends: backends[:1], Slots: map[uint32][]uint32{1: {7}}})
}

func readsBack(t *testing.T, d *Datapath, want model.ServiceRows) {
	t.Helper()
	got, err := d.Services()
	must(t, err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the kernel holds\n%+v\nwant\n%+v", got, want)
	}
}

// echoUDP answers on the loopback address with its own port.
func echoUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { pc.Close() })
	at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	go func() { // ends with the socket
		buf := make([]byte, 100)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteToUDPAddrPort(fmt.Appendf(buf[:n], " by %s", at), from)
		}
	}()
	return at
}

// A socket keeps four pairs; older ones are told back all the same, and counted.
func TestSocketWithManyServices(t *testing.T) {
	d := open(t, Config{})
	pc, err := net.ListenUDP("udp4", nil)
	must(t, err)
	defer pc.Close()
	must(t, pc.SetDeadline(time.Now().Add(10*time.Second)))
	const services = 7
	buf := make([]byte, 100)
	for n := byte(1); n <= services; n++ {
		at := echoUDP(t)
		f := frontendAt(n, false, model.ProtoUDP, 1)
		putService(t, d, f, model.BackendRow{ID: uint32(n), Addr: at.Addr(), Port: at.Port(), Protocol: model.ProtoUDP})
		_, err := pc.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(f.Addr, f.Port))
		must(t, err)
	}
	seen := make(map[netip.AddrPort]bool)
	for range services {
		_, from, err := pc.ReadFromUDPAddrPort(buf)
		must(t, err)
		seen[from] = true
	}
	for n := byte(1); n <= services; n++ {
		if f := frontendAt(n, false, model.ProtoUDP, 1); !seen[netip.AddrPortFrom(f.Addr, f.Port)] {
			t.Errorf("no answer from %s", f.FrontendKey)
		}
	}
	if out, err := d.PairsPushedOut(); err != nil || out != services-4 {
		t.Errorf("%d pairs found no place in their socket, %v; want %d", out, err, services-4)
	}
	hits, err := d.Hits()
	must(t, err)
	if len(hits) != services || hits[model.Hit{Service: 1, Backend: 1}] != 1 {
		t.Errorf("hits: %v", hits)
	}
}

func TestMessagesFollowTheStateOfTheirBackend(t *testing.T) {
	d := open(t, Config{})
	f := frontendAt(1, false, model.ProtoUDP, 1)
	backends := make([]model.BackendRow, 2)
	for i := range backends {
		at := echoUDP(t)
		backends[i] = model.BackendRow{ID: uint32(i + 1), Addr: at.Addr(), Port: at.Port(), Protocol: model.ProtoUDP}
	}
	pc, err := net.ListenUDP("udp4", nil)
	must(t, err)
	defer pc.Close()
	must(t, pc.SetDeadline(time.Now().Add(10*time.Second)))
	answers := func(want model.BackendRow, when string) {
		t.Helper()
		_, err := pc.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(f.Addr, f.Port))
		must(t, err)
		buf := make([]byte, 100)
		n, _, err := pc.ReadFromUDPAddrPort(buf)
		must(t, err)
		if got, wanted := string(buf[:n]), fmt.Sprintf("hello by %s:%d", want.Addr, want.Port); got != wanted {
			t.Errorf("%s: %q, want %q", when, got, wanted)
		}
	}
	putService(t, d, f, backends[0])
	answers(backends[0], "at first")
	backends[0].State = model.BackendDraining
	must(t, d.ApplyBackends(backends))
	must(t, d.ApplySlots(model.SlotTable{Service: f.Service, Backends: []uint32{2}}))
	answers(backends[0], "while it drains")
	backends[0].State = model.BackendUnready
	must(t, d.ApplyBackends(backends))
	answers(backends[1], "while it is not ready")
	must(t, d.DeleteBackends([]uint32{1}))
	answers(backends[1], "when it is gone")
}

func TestServiceOfNobodyRefuses(t *testing.T) {
	d := open(t, Config{})
	for _, v6 := range []bool{false, true} {
		for _, protocol := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			f := frontendAt(1, v6, protocol, 0)
			putService(t, d, f)
			network := map[uint8]string{model.ProtoTCP: "tcp", model.ProtoUDP: "udp"}[protocol]
			conn, err := net.Dial(network, netip.AddrPortFrom(f.Addr, f.Port).String())
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v, %v, want a refusal", f.FrontendKey, conn, err)
			}
		}
	}
}

// Links stay over a restart and move with the setting; nothing is left behind.
func TestSocketProgramsFollowTheirCgroup(t *testing.T) {
	mount, err := cgroup.FindMount()
	must(t, err)
	child := filepath.Join(mount, "elsewhere")
	must(t, os.Mkdir(child, 0o755))
	t.Cleanup(func() { must(t, os.Remove(child)) })
	d := open(t, Config{})
	at := echoUDP(t)
	f := frontendAt(1, false, model.ProtoUDP, 1)
	putService(t, d, f, model.BackendRow{ID: 1, Addr: at.Addr(), Port: at.Port(), Protocol: model.ProtoUDP})
	to := netip.AddrPortFrom(f.Addr, f.Port).String()
	translated := func() bool {
		conn, err := net.Dial("udp", to)
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.LocalAddr().(*net.UDPAddr).IP.IsLoopback()
	}
	if !translated() {
		t.Error("a call is not translated")
	}
	first := socketLinks(t)
	must(t, d.Close())
	d = reopen(t, Config{})
	if !translated() || !reflect.DeepEqual(first, socketLinks(t)) {
		t.Errorf("a restart took other links: %v, %v", first, socketLinks(t))
	}
	must(t, d.Close())
	d = reopen(t, Config{Cgroup: child})
	if translated() {
		t.Error("a call is translated in a cgroup that is not asked for any more")
	}
	must(t, errors.Join(d.Close(), Cleanup(testRoot)))
	if _, err := os.Stat(testRoot); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
}

// socketLinks is the kernel's number of each hook's link.
func socketLinks(t *testing.T) map[string]link.ID {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(testRoot, "sockets", "*"))
	must(t, err)
	out := make(map[string]link.ID)
	for _, path := range paths {
		l, err := link.LoadPinnedLink(path, nil)
		must(t, err)
		info, err := l.Info()
		must(t, errors.Join(err, l.Close()))
		out[filepath.Base(path)] = info.ID
	}
	if len(out) != 10 {
		t.Errorf("links: %v", out)
	}
	return out
}
