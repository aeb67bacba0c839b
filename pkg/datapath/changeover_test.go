// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf/ctalt"
	"github.com/weftmesh/weft/pkg/model"
)

// pair is two pods with a flow that only conntrack of another layout knows. The
// second may answer on it, and may open none itself.
type pair struct {
	d      *Datapath
	device uint32 // of the second pod
	old    map[string]oldMap
}

func newPair(t *testing.T, mode AttachMode) *pair {
	t.Helper()
	p := &pair{d: open(t, Config{Attach: mode}), old: make(map[string]oldMap)}
	var rows []model.IPRow
	for slot := range uint16(2) {
		name := "wf.pair" + string('0'+rune(slot))
		row := endpointRow(slot+1, veth(t, name), name)
		must(t, p.d.ApplyEndpoint(row))
		must(t, p.d.Attach(t.Context(), row.IfIndex, name))
		for _, ip := range []netip.Addr{row.IPv4, row.IPv6} {
			rows = append(rows, model.IPRow{Prefix: netip.PrefixFrom(ip, ip.BitLen()), Identity: row.Identity, Slot: row.Slot})
		}
		p.device = row.IfIndex
	}
	must(t, p.d.ApplyIPs(rows, nil))
	ours, err := weftbpf.LoadBpf()
	must(t, err)
	other, err := ctalt.LoadBpf()
	must(t, err)
	for _, name := range []string{"weft_ct4", "weft_ct6", "weft_ctn4", "weft_ctn6"} {
		m, err := ebpf.NewMap(other.Maps[name])
		must(t, err)
		t.Cleanup(func() { m.Close() })
		pinned(t, m, name+"_v900")
		keys, err := appendSpans(nil, ours.Maps[name].Key, other.Maps[name].Key, 0, 0)
		must(t, err)
		values, err := appendSpans(nil, ours.Maps[name].Value, other.Maps[name].Value, 0, 0)
		must(t, err)
		p.old[name] = oldMap{Map: m, keys: keys, values: values}
	}
	return p
}

// flow enters a flow of port 4000 of the first pod to port 80 of the second.
func (p *pair) flow(t *testing.T, table string, packets uint64) {
	t.Helper()
	row := weftbpf.BpfWeftCt{
		Packets: [2]uint64{packets, 0}, Slot: [2]uint16{1, 2}, Identity: [2]uint32{256, 256}, Action: 1,
		Epoch: [2]uint32{kernelRow(t, p.d, 1).Epoch, kernelRow(t, p.d, 2).Epoch},
	}
	if table == "weft_ct4" { // whose rows are longer
		p.old[table].put(t, pairKey(table), weftbpf.BpfWeftCt4Row{Ct: row})
		return
	}
	p.old[table].put(t, pairKey(table), row)
}

func pairKey(table string) any {
	ports := [2]uint16{wire16(4000), wire16(80)}
	a, b := endpointRow(1, 0, ""), endpointRow(2, 0, "")
	if table == "weft_ct4" || table == "weft_ctn4" {
		return weftbpf.BpfWeftCt4Key{Addr: [2]uint32{wire32(a.IPv4), wire32(b.IPv4)}, Port: ports, Proto: 17}
	}
	return weftbpf.BpfWeftCt6Key{Addr: [2][16]uint8{a.IPv6.As16(), b.IPv6.As16()}, Port: ports, Proto: 17}
}

// answer is a datagram of the second pod to the first.
func answer(family int) []byte {
	a, b := endpointRow(1, 0, ""), endpointRow(2, 0, "")
	frame := append(b.HostMAC[:], b.MAC[:]...)
	udp := binary.BigEndian.AppendUint16(nil, 80)
	udp = binary.BigEndian.AppendUint16(udp, 4000)
	udp = append(udp, 0, 12, 0, 0, 'w', 'e', 'f', 't')
	if family == 4 {
		frame = append(frame, 8, 0, 0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0)
		frame = append(frame, b.IPv4.AsSlice()...)
		frame = append(frame, a.IPv4.AsSlice()...)
		return append(frame, udp...)
	}
	frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64)
	frame = append(frame, b.IPv6.AsSlice()...)
	frame = append(frame, a.IPv6.AsSlice()...)
	return append(frame, udp...)
}

// verdict of a program on the answer at the second pod's device.
func (p *pair) verdict(t *testing.T, prog *ebpf.Program, family int) uint32 {
	t.Helper()
	ctx := make([]byte, 192)                          // struct __sk_buff
	binary.NativeEndian.PutUint32(ctx[40:], p.device) // ifindex
	v, err := prog.Run(&ebpf.RunOptions{Data: answer(family), Context: ctx, Repeat: 1})
	must(t, err)
	return v
}

const actRedirect = 7 // TC_ACT_REDIRECT: delivered

// inUse is the program on what the second pod sends.
func (p *pair) inUse(t *testing.T, mode AttachMode) *ebpf.Program {
	t.Helper()
	var id ebpf.ProgramID
	if mode == AttachTCX {
		l, place, err := openLink(p.d.pins.linkPath("wf.pair1", "_in"))
		must(t, err)
		l.Close()
		id = place.program
	} else {
		var err error
		id, err = filterProgram(int(p.device), clsactIngress)
		must(t, err)
	}
	prog, err := ebpf.NewProgramFromID(id)
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}

// isKnown asserts that answers pass, in both families, by the program in use.
func (p *pair) isKnown(t *testing.T, mode AttachMode, want bool, when string) {
	t.Helper()
	prog := p.inUse(t, mode)
	for _, family := range []int{4, 6} {
		wanted := uint32(actShot)
		if want {
			wanted = actRedirect
		}
		if v := p.verdict(t, prog, family); v != wanted {
			t.Errorf("%s, %s says %d to an answer over IPv%d, want %d", when, prog, v, family, wanted)
		}
	}
}

// TestAFlowOfTheOldTablesIsFetched has a flow that comes after its table was
// copied: without the old tables its answer is refused.
func TestAFlowOfTheOldTablesIsFetched(t *testing.T) {
	for name, tables := range map[string]map[int]string{
		"unanswered": {4: "weft_ctn4", 6: "weft_ctn6"},
		"answered":   {4: "weft_ct4", 6: "weft_ct6"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, AttachAuto)
			adopted := p.adopt(t)
			must(t, adopted.carryOver())
			olds, err := adopted.oldTables()
			must(t, err)
			over, err := olds.load(Config{}, adopted)
			must(t, err)
			defer over.Close()
			for family, table := range tables {
				p.flow(t, table, 7)
				if v := p.verdict(t, p.d.progs.WeftFromPod, family); v != actShot {
					t.Fatalf("an answer to nothing gets verdict %d", v)
				}
				for range 2 {
					if v := p.verdict(t, over.Programs["weft_from_pod"], family); v != actRedirect {
						t.Errorf("an answer to a flow of the old %s gets verdict %d", table, v)
					}
				}
				if got := p.tracked(t, family); got.Packets != [2]uint64{7, 2} {
					t.Errorf("the flow of %s was carried over as %+v", table, got)
				}
			}
		})
	}
}

// adopt opens the maps as a new agent does.
func (p *pair) adopt(t *testing.T) *adoption {
	t.Helper()
	spec, err := loadSpec(Config{})
	must(t, err)
	adopted, err := p.d.pins.adopt(spec)
	must(t, err)
	t.Cleanup(adopted.close)
	return adopted
}

// tracked is the answered flow of the pair.
func (p *pair) tracked(t *testing.T, family int) weftbpf.BpfWeftCt {
	t.Helper()
	if family == 4 {
		var row weftbpf.BpfWeftCt4Row
		must(t, p.d.maps.WeftCt4.Lookup(pairKey("weft_ct4"), &row))
		return row.Ct
	}
	var row weftbpf.BpfWeftCt6Row
	must(t, p.d.maps.WeftCt6.Lookup(pairKey("weft_ct6"), &row))
	return row.Ct
}

func eachMode(t *testing.T, run func(t *testing.T, mode AttachMode)) {
	for _, mode := range []AttachMode{AttachTCX, AttachClsact} {
		t.Run(mode.String(), func(t *testing.T) { run(t, mode) })
	}
}

func TestDevicesCrossAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, mode AttachMode) {
		p := newPair(t, mode)
		adopted := p.adopt(t)
		b, err := p.d.buildBridges(Config{}, adopted)
		must(t, err)
		must(t, adopted.carryOver())
		p.flow(t, "weft_ctn4", 1)
		p.flow(t, "weft_ctn6", 1)
		p.isKnown(t, mode, false, "before the crossing")
		must(t, b.cross())
		p.isKnown(t, mode, true, "after the crossing")

		// An agent that is killed here leaves the bridges to the next one.
		b.close()
		settle()
		p.isKnown(t, mode, true, "without the agent")
		must(t, p.d.Close())
		var log bytes.Buffer
		must(t, reopenLogging(t, mode, &log).Close())
		p.isKnown(t, mode, true, "with the next agent")
		if name := p.inUse(t, mode).String(); !bytes.Contains([]byte(name), []byte("weft_from_pod")) {
			t.Errorf("in use is still %s", name)
		}
		if bytes.Contains(log.Bytes(), []byte("device by device")) {
			t.Errorf("no bridges were built: %s", &log)
		}
		if _, err := os.Stat(p.d.pins.bridgesDir()); !os.IsNotExist(err) {
			t.Errorf("bridges are left: %v", err)
		}
	})
}

func reopenLogging(t *testing.T, mode AttachMode, to *bytes.Buffer) *Datapath {
	t.Helper()
	d, err := Open(Config{BPFFS: testRoot, Attach: mode, Log: slog.New(slog.NewTextHandler(to, nil))})
	must(t, err)
	return d
}

// TestConntrackThatCannotBeReadIsCopiedAllTheSame has keys of another layout,
// which no program of ours looks up.
func TestConntrackThatCannotBeReadIsCopiedAllTheSame(t *testing.T) {
	eachMode(t, func(t *testing.T, mode AttachMode) {
		p := newPair(t, mode)
		spec, err := weftbpf.LoadBpf()
		must(t, err)
		other := newOldMap(t, spec.Maps["weft_ct4"])
		pinned(t, other.Map, "weft_ct4_v901")
		key, row := ct4(4000, 77)
		other.put(t, key, row)
		must(t, p.d.Close())
		var log bytes.Buffer
		d := reopenLogging(t, mode, &log)
		defer d.Close()
		var got weftbpf.BpfWeftCt4Row
		must(t, d.maps.WeftCt4.Lookup(key, &got))
		if got != row {
			t.Errorf("the flow became %+v", got)
		}
		if !bytes.Contains(log.Bytes(), []byte("weft_ct4 has other keys")) {
			t.Errorf("the log does not say why there are no bridges: %s", &log)
		}
		noOtherVersions(t)
	})
}
