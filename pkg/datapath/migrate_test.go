// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// rearranged is another layout of the same type: members in reverse order, and
// something unknown before them.
func rearranged(typ btf.Type) btf.Type {
	s, ok := btf.UnderlyingType(typ).(*btf.Struct)
	if !ok {
		return typ
	}
	members := []btf.Member{member("unknown", array(number(1), 8))}
	for _, m := range slices.Backward(s.Members) {
		members = append(members, member(m.Name, rearranged(m.Type)))
	}
	return structure(s.Name, members...)
}

// oldMap is a map of another layout, and how entries of ours become its own.
type oldMap struct {
	*ebpf.Map
	keys, values converter
}

// newOldMap makes it. LPM keys keep their form: the kernel reads them.
func newOldMap(t *testing.T, spec *ebpf.MapSpec) oldMap {
	t.Helper()
	old := spec.Copy()
	if spec.Type != ebpf.LPMTrie {
		old.Key = rearranged(spec.Key)
	}
	old.Value = rearranged(spec.Value)
	for _, part := range []struct {
		typ  btf.Type
		size *uint32
	}{{old.Key, &old.KeySize}, {old.Value, &old.ValueSize}} {
		size, err := btf.Sizeof(part.typ)
		must(t, err)
		*part.size = uint32(size)
	}
	m, err := ebpf.NewMap(old)
	must(t, err)
	t.Cleanup(func() { m.Close() })
	keys, err := appendSpans(nil, spec.Key, old.Key, 0, 0)
	must(t, err)
	values, err := appendSpans(nil, spec.Value, old.Value, 0, 0)
	must(t, err)
	return oldMap{Map: m, keys: keys, values: values}
}

// put writes an entry of today's layout in the old one.
func (m oldMap) put(t *testing.T, key, value any) {
	t.Helper()
	oldKey, oldValue := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	m.keys.convert(oldKey, encode(t, key))
	m.values.convert(oldValue, encode(t, value))
	must(t, m.Put(oldKey, oldValue))
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	out, err := binary.Append(nil, binary.NativeEndian, v)
	must(t, err)
	return out
}

func pinned(t *testing.T, m *ebpf.Map, name string) {
	t.Helper()
	must(t, os.MkdirAll(testRoot+"/maps", 0o700))
	must(t, m.Pin(testRoot+"/maps/"+name))
}

func ct4(port uint16, packets uint64) (weftbpf.BpfWeftCt4Key, weftbpf.BpfWeftCt4Row) {
	return weftbpf.BpfWeftCt4Key{Addr: [2]uint32{1, 2}, Port: [2]uint16{port, 80}, Proto: 6},
		weftbpf.BpfWeftCt4Row{Ct: weftbpf.BpfWeftCt{
			Packets: [2]uint64{packets, 2}, Bytes: [2]uint64{3, 4}, Seen: 5, Epoch: [2]uint32{6, 7},
			Identity: [2]uint32{256, 257}, Slot: [2]uint16{8, 9}, Flags: 1, Tcp: [2]uint8{0x12, 0x10},
			Action: 1, Rule: [2]uint32{10, 11}, Created: 12,
		}}
}

func TestMapsOfAnotherLayoutAreCarriedOver(t *testing.T) {
	must(t, open(t, Config{}).Close()) // so that there is a bpffs
	must(t, Cleanup(testRoot))
	spec, err := weftbpf.LoadBpf()
	must(t, err)

	ct := newOldMap(t, spec.Maps["weft_ct4"])
	pinned(t, ct.Map, "weft_ct4_v901")
	key, row := ct4(4000, 77)
	ct.put(t, key, row)
	key6 := weftbpf.BpfWeftCt6Key{Addr: [2][16]uint8{{1}, {2}}, Port: [2]uint16{1, 2}, Proto: 17}
	unanswered := newOldMap(t, spec.Maps["weft_ctn6"])
	pinned(t, unanswered.Map, "weft_ctn6_v901")
	unanswered.put(t, key6, row.Ct)

	eps := newOldMap(t, spec.Maps["weft_ep"])
	pinned(t, eps.Map, "weft_ep_v901")
	ep := encodeEndpoint(endpointRow(3, 5, ""), setPlace{})
	ep.Epoch = 41
	eps.put(t, uint32(3), ep)

	d := open(t, Config{})
	var got weftbpf.BpfWeftCt4Row
	must(t, d.maps.WeftCt4.Lookup(key, &got))
	if got != row {
		t.Errorf("the flow became\n%+v\nwant\n%+v", got, row)
	}
	var got6 weftbpf.BpfWeftCt
	must(t, d.maps.WeftCtn6.Lookup(key6, &got6))
	if got6 != row.Ct {
		t.Errorf("the unanswered flow became\n%+v\nwant\n%+v", got6, row.Ct)
	}
	if got := kernelRow(t, d, 3); got != ep || d.epoch != 41 {
		t.Errorf("the endpoint became\n%+v\nwant\n%+v, and the newest epoch %d", got, ep, d.epoch)
	}
	noOtherVersions(t)
}

func noOtherVersions(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(testRoot + "/maps")
	must(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_v901") || strings.HasSuffix(e.Name(), "_v0") {
			t.Errorf("%s is left", e.Name())
		}
	}
	if len(entries) != len(pinnedMaps()) {
		t.Errorf("%d maps are pinned, want %d", len(entries), len(pinnedMaps()))
	}
}

func TestPolicySetsOfAnotherLayoutAreCarriedOver(t *testing.T) {
	must(t, open(t, Config{}).Close())
	must(t, Cleanup(testRoot))
	spec, err := weftbpf.LoadBpf()
	must(t, err)
	inner := newOldMap(t, spec.Maps["weft_polsets"].InnerMap)
	set := policySet(8080)
	key, value := encodeEntry(set.Entries[0])
	inner.put(t, key, value)
	outer := spec.Maps["weft_polsets"].Copy()
	outer.InnerMap.ValueSize = inner.ValueSize()
	outer.InnerMap.Value = nil
	outer.InnerMap.Key = nil
	m, err := ebpf.NewMap(outer)
	must(t, err)
	defer m.Close()
	must(t, m.Put(uint32(17), inner.Map))
	pinned(t, m, "weft_polsets_v901")

	d := open(t, Config{})
	sets, err := d.PolicySets()
	must(t, err)
	want := map[model.SetHash]model.PolicySet{set.Hash: set}
	if !reflect.DeepEqual(sets, want) {
		t.Errorf("the sets became %+v, want %+v", sets, want)
	}
	if place := d.sets.places[set.Hash]; place.index != 17 {
		t.Errorf("the set is in place %d", place.index)
	}
	noOtherVersions(t)
}

func TestFlowsBornBetweenThePassesAreFetched(t *testing.T) {
	d := open(t, Config{})
	spec, err := weftbpf.LoadBpf()
	must(t, err)
	old := newOldMap(t, spec.Maps["weft_ct4"])
	pinned(t, old.Map, "weft_ct4_v901")
	before, row := ct4(1, 10)
	old.put(t, before, row)
	must(t, os.Remove(d.pins.mapPath("weft_ct4", conntrackVersion)))

	adopted, err := d.pins.adopt(spec)
	must(t, err)
	defer adopted.close()
	must(t, adopted.carryOver())
	now := adopted.maps["weft_ct4"]
	_, newer := ct4(1, 20)
	must(t, now.Put(before, newer)) // the new programs saw ten packets more
	between, born := ct4(2, 1)
	old.put(t, between, born)
	must(t, adopted.fetchRest())
	must(t, adopted.removeOld())

	var got weftbpf.BpfWeftCt4Row
	must(t, now.Lookup(between, &got))
	if got != born {
		t.Errorf("the flow born between became %+v", got)
	}
	must(t, now.Lookup(before, &got))
	if got != newer {
		t.Errorf("what the new programs wrote was overwritten: %+v", got)
	}
}

func TestConntrackOfAnotherSizeKeepsItsFlows(t *testing.T) {
	d := open(t, Config{})
	key, row := ct4(4000, 77)
	must(t, d.maps.WeftCt4.Put(key, row))
	must(t, d.Close())
	d = reopen(t, Config{CTEntries4: 5000})
	if n := d.maps.WeftCt4.MaxEntries(); n != 5000 {
		t.Errorf("the table has room for %d flows", n)
	}
	var got weftbpf.BpfWeftCt4Row
	must(t, d.maps.WeftCt4.Lookup(key, &got))
	if got != row {
		t.Errorf("the flow became %+v", got)
	}
	noOtherVersions(t)
}

// Every map whose size may be another in the next release, as an agent finds it that
// another one left: twice as large, and half.
func TestMapsOfAnotherSizeKeepTheirEntries(t *testing.T) {
	names := map[string]bool{}
	for _, name := range []string{"weft_ct4", "weft_ct6", "weft_ctn4", "weft_ctn6", "weft_svc4", "weft_svc6",
		"weft_svc_slot", "weft_backend", "weft_affinity", "weft_nat4", "weft_nat6"} {
		names[name] = true
	}
	for _, resize := range []func(uint32) uint32{func(n uint32) uint32 { return 2 * n }, func(n uint32) uint32 { return n / 2 }} {
		spec, err := weftbpf.LoadBpf()
		must(t, err)
		must(t, open(t, Config{}).Close())
		keys, sizes := map[string][]byte{}, map[string]uint32{}
		for _, pin := range pinnedMaps() {
			if names[pin.name] {
				had := spec.Maps[pin.name].Copy()
				sizes[pin.name], had.MaxEntries = had.MaxEntries, resize(had.MaxEntries)
				keys[pin.name] = replacePin(t, pins{root: testRoot}.mapPath(pin.name, pin.version), had)
			}
		}
		d := reopen(t, Config{})
		for _, pin := range pinnedMaps() {
			if !names[pin.name] {
				continue
			}
			m, err := ebpf.LoadPinnedMap(d.pins.mapPath(pin.name, pin.version), nil)
			must(t, err)
			if got, err := m.LookupBytes(keys[pin.name]); err != nil || got == nil || m.MaxEntries() != sizes[pin.name] {
				t.Errorf("%s has room for %d, want %d, and of its entry %v, %v", pin.name, m.MaxEntries(), sizes[pin.name], got, err)
			}
			must(t, m.Close())
		}
		noOtherVersions(t)
		must(t, errors.Join(d.Close(), Cleanup(testRoot)))
	}
}

// replacePin puts another map in the place of a pinned one, with one entry, whose key
// it returns.
func replacePin(t *testing.T, path string, spec *ebpf.MapSpec) []byte {
	t.Helper()
	m, err := ebpf.NewMap(spec)
	must(t, err)
	defer m.Close()
	key, value := make([]byte, spec.KeySize), make([]byte, spec.ValueSize)
	for i := range key {
		key[i] = byte(i + 1)
	}
	for i := range value {
		value[i] = byte(i + 3)
	}
	must(t, errors.Join(m.Put(key, value), os.Remove(path), m.Pin(path)))
	return key
}
