// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

func TestMeasuredTickIsTheConfiguredOne(t *testing.T) {
	configured, err := configHZ("/proc/config.gz")
	if errors.Is(err, unix.ENOENT) {
		t.Skip("kernel: no /proc/config.gz (CONFIG_IKCONFIG_PROC)")
	}
	must(t, err)
	measured, err := measureHZ()
	must(t, err)
	if measured != configured {
		t.Errorf("measured %d jiffies a second, configured are %d", measured, configured)
	}
}

func TestSnapHZ(t *testing.T) {
	for measured, want := range map[float64]uint32{99.2: 100, 240: 250, 276: 300, 301: 300, 990: 1000} {
		if got := snapHZ(measured); got != want {
			t.Errorf("%v became %d, want %d", measured, got, want)
		}
	}
}

func TestChangedAddressesHaveTheirFlowsDecidedAgain(t *testing.T) {
	d := open(t, Config{})
	flow := func(a, b byte) weftbpf.BpfWeftCt4Key {
		return weftbpf.BpfWeftCt4Key{
			Addr: [2]uint32{wire32(netip.AddrFrom4([4]byte{10, 0, 0, a})), wire32(netip.AddrFrom4([4]byte{10, 0, 0, b}))},
			Port: [2]uint16{wire16(4000), wire16(80)}, Proto: model.ProtoTCP,
		}
	}
	flows := []weftbpf.BpfWeftCt4Key{flow(1, 2), flow(2, 3), flow(3, 4)}
	for _, key := range flows {
		must(t, d.maps.WeftCt4.Put(key, weftbpf.BpfWeftCt4Row{}))
	}
	stale := func() [3]bool { return [3]bool(staleFlows(t, d, flows)) }
	host := func(n byte) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 32) }

	// Saying what already held, by default, changes nothing.
	must(t, d.ApplyIPs([]model.IPRow{{Prefix: host(1), Identity: model.IdentityWorldIPv4}}, nil))
	if got := stale(); got != [3]bool{} {
		t.Errorf("marked are %v though nothing changed", got)
	}
	must(t, d.ApplyIPs([]model.IPRow{{Prefix: host(2), Identity: 300}}, nil))
	if got := stale(); got != [3]bool{true, true, false} {
		t.Errorf("marked are %v, want the first two flows", got)
	}
}

// staleFlows tells which flows are marked to be decided again.
func staleFlows(t *testing.T, d *Datapath, flows []weftbpf.BpfWeftCt4Key) []bool {
	t.Helper()
	marked := make([]bool, len(flows))
	for i, key := range flows {
		var row weftbpf.BpfWeftCt4Row
		must(t, d.maps.WeftCt4.Lookup(key, &row))
		marked[i] = row.Ct.Flags&uint8(weftbpf.BpfWeftCtFlagWEFT_CT_STALE) != 0
	}
	return marked
}

func TestASweepThatWasCutShortIsMadeUpFor(t *testing.T) {
	d := open(t, Config{})
	key, row := ct4(4000, 1)
	row.Ct.Flags = 0
	cutShort := func() {
		must(t, d.maps.WeftCt4.Put(key, row))
		_, err := d.pins.markUnswept()
		must(t, err)
	}
	cutShort() // by an error: the next change sweeps everything
	must(t, d.ApplyIPs([]model.IPRow{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Identity: 300}}, nil))
	if !staleFlows(t, d, []weftbpf.BpfWeftCt4Key{key})[0] {
		t.Error("the next change swept only its own addresses")
	}
	cutShort() // by the end of the agent: the next agent sweeps everything
	must(t, d.Close())
	d = reopen(t, Config{})
	if !staleFlows(t, d, []weftbpf.BpfWeftCt4Key{key})[0] {
		t.Error("the next agent did not sweep")
	}
	if already, err := d.pins.markUnswept(); err != nil || already {
		t.Errorf("the mark is still there: %v, %v", already, err)
	}
}

func TestFlowReaderWaitsUntilTheDeadlineAndEndsWhenClosed(t *testing.T) {
	d := open(t, Config{FlowEvents: true})
	reader, err := d.Flows()
	must(t, err)
	if _, err := reader.ReadFlow(time.Now().Add(10 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an empty buffer gives %v", err)
	}
	must(t, reader.Close())
	if _, err := reader.ReadFlow(time.Now().Add(time.Second)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed reader gives %v", err)
	}
}

func TestCountersAndCollection(t *testing.T) {
	d := open(t, Config{})
	cpus, err := ebpf.PossibleCPU()
	must(t, err)
	values := make([]weftbpf.BpfWeftCounter, cpus)
	for i := range values {
		values[i] = weftbpf.BpfWeftCounter{Packets: 1, Bytes: 100}
	}
	const spoofedMAC = uint32(weftbpf.BpfWeftReasonWEFT_DROP_SPOOFED_MAC)
	must(t, d.maps.WeftMetrics.Put(spoofedMAC*2+uint32(model.Ingress), values))
	counters, err := d.Counters()
	must(t, err)
	want := Counter{Reason: uint8(spoofedMAC), Direction: model.Ingress, Packets: uint64(cpus), Bytes: 100 * uint64(cpus)}
	if got := counters[spoofedMAC*2+1]; got != want {
		t.Errorf("counter is %+v, want %+v", got, want)
	}
	if lost, err := d.LostEvents(); err != nil || lost != 0 {
		t.Errorf("%d events lost, %v", lost, err)
	}
	stats, err := d.CollectGarbage()
	must(t, err)
	if stats != d.Tracked() {
		t.Errorf("collected %+v, but tracked is %+v", stats, d.Tracked())
	}
}

func TestConfigurationReachesThePrograms(t *testing.T) {
	spec, err := loadSpec(Config{FlowEvents: true, Timeouts: Timeouts{New: 1500e6}, CTEntries4: 1000})
	must(t, err)
	var c weftbpf.BpfWeftConfig
	must(t, spec.Variables["weft_cfg"].Get(&c))
	if c.NewTimeout != 2 || c.TcpTimeout != 8000 || c.FlowEvents != 1 || c.PendMax == 0 || c.Hz == 0 {
		t.Errorf("configured %+v", c)
	}
	if n := spec.Maps["weft_ct4"].MaxEntries; n != 1000 {
		t.Errorf("weft_ct4 has %d entries", n)
	}
}

func TestEveryMapOfTheObjectIsPinned(t *testing.T) {
	spec, err := weftbpf.LoadBpf()
	must(t, err)
	pinned := map[string]bool{"weft_swept": true, "weft_fetched": true, "weft_routes": true} // scratch of one run of a program, or of a tick
	for _, pin := range pinnedMaps() {
		pinned[pin.name], pinned[pin.old] = true, true // old: only while conntrack moves
	}
	for name := range spec.Maps {
		if !pinned[name] && name[0] != '.' {
			t.Errorf("map %s has no version", name)
		}
	}
}
