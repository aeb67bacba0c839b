// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

const pinRoot = "/sys/fs/bpf/weft"

// kernelState is what the kernel holds of the agent's intent, one line a fact,
// sorted. Two states are equal when every packet of a new flow meets the same
// rows: devices, endpoints, addresses and policy entries are compared by
// content. Left out is what history alone decides and no packet can tell apart:
// epochs, the place of a policy set in its array, the numbers of prefixes (they
// are called by the prefix); and what the programs write: flows and counters.
//
// Some things the agent does when nobody waits for them; they get a while.
func kernelState(t *testing.T) []string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); ; <-tick.C {
		d := readState(t)
		if d.unlinked == 0 && len(d.unnamed) == 0 || time.Now().After(end) {
			return d.lines
		}
	}
}

func readState(t *testing.T) *stateDump {
	t.Helper()
	d := &stateDump{t: t, locals: map[uint32]string{}, sets: map[uint32]string{}, unnamed: map[uint32]bool{}}
	d.addresses()
	d.policySets()
	d.endpoints()
	d.devices()
	d.services()
	d.pins()
	slices.Sort(d.lines)
	return d
}

type stateDump struct {
	t      *testing.T
	lines  []string
	locals map[uint32]string // identity of a prefix -> the prefix
	sets   map[uint32]string // place -> content

	unlinked int             // links that devices of endpoints lack
	unnamed  map[uint32]bool // places of sets that no endpoint has
}

func (d *stateDump) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *stateDump) addresses() {
	note := func(p netip.Prefix, v weftbpf.BpfWeftIp) {
		if model.IdentityID(v.Identity).IsLocal() {
			d.locals[v.Identity] = p.String()
		}
		d.add("address %s is %s in slot %d at node %d", p, d.identity(v.Identity), v.Slot, v.Node)
	}
	each(d.t, "weft_ip4_v1", func(k weftbpf.BpfWeftIp4Key, v weftbpf.BpfWeftIp) {
		note(netip.PrefixFrom(ip4(k.Addr), int(k.Prefixlen)), v)
	})
	each(d.t, "weft_ip6_v1", func(k weftbpf.BpfWeftIp6Key, v weftbpf.BpfWeftIp) {
		note(netip.PrefixFrom(netip.AddrFrom16(k.Addr), int(k.Prefixlen)), v)
	})
}

func (d *stateDump) identity(id uint32) string {
	return cmp.Or(d.locals[id], fmt.Sprint(id))
}

func (d *stateDump) policySets() {
	each(d.t, "weft_polsets_v1", func(place uint32, id ebpf.MapID) {
		inner, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			return // replaced since it was listed
		}
		ok(d.t, err)
		defer inner.Close()
		var entries []string
		walk(d.t, inner, func(k weftbpf.BpfWeftPolKey, v weftbpf.BpfWeftPol) {
			entries = append(entries, fmt.Sprintf("{%s dir %d proto %d port %d/%d: action %d precedence %d rule %d ruleset %d}",
				d.identity(k.Identity), k.Dir, k.Proto, k.Port, k.Prefixlen, v.Action, v.Precedence, v.Rule, v.Ruleset))
		})
		if len(entries) == 0 {
			return // the place is only ready for a set
		}
		slices.Sort(entries)
		d.unnamed[place] = true
		d.sets[place] = strings.Join(entries, " ")
		d.add("policy set %s", d.sets[place])
	})
}

func (d *stateDump) endpoints() {
	each(d.t, "weft_ep_v1", func(slot uint32, row weftbpf.BpfWeftEpRow) {
		row.Epoch = 0
		if row == (weftbpf.BpfWeftEpRow{}) {
			return
		}
		set := d.sets[row.Polset]
		delete(d.unnamed, row.Polset)
		row.Polset = 0
		d.add("endpoint in slot %d: %+v, set %s", slot, row, set)
	})
	each(d.t, "weft_pend_v1", func(slot uint32, _ ebpf.MapID) { d.add("ring of slot %d", slot) })
}

func (d *stateDump) devices() {
	links := map[uint32]int{}
	for _, m := range []string{"weft_if_v1", "weft_if_hi_v1"} {
		each(d.t, m, func(ifindex, slot uint32) {
			if slot != 0 {
				d.add("device %d is slot %d", ifindex, slot)
				links[ifindex] = 2
			}
		})
	}
	for pin, info := range pinnedLinks(d.t) {
		prog, err := ebpf.NewProgramFromID(info.Program)
		ok(d.t, err)
		got, err := prog.Info()
		ok(d.t, err)
		prog.Close()
		d.add("link %s of device %d runs %s", pin, info.TCX().Ifindex, got.Name)
		if links[info.TCX().Ifindex] > 0 {
			d.unlinked--
		}
	}
	for _, n := range links {
		d.unlinked += n
	}
}

func (d *stateDump) services() {
	each(d.t, "weft_svc4_v1", func(k weftbpf.BpfWeftSvc4Key, v weftbpf.BpfWeftSvc) { d.add("front end %+v: %+v", k, v) })
	each(d.t, "weft_svc6_v1", func(k weftbpf.BpfWeftSvc6Key, v weftbpf.BpfWeftSvc) { d.add("front end %+v: %+v", k, v) })
	each(d.t, "weft_svc_slot_v1", func(k weftbpf.BpfWeftSlotKey, backend uint32) { d.add("slot %+v: %d", k, backend) })
	each(d.t, "weft_backend_v2", func(id uint32, v weftbpf.BpfWeftBackendRow) { d.add("backend %d: %+v", id, v) })
}

func (d *stateDump) pins() {
	entries, err := os.ReadDir(pinRoot)
	ok(d.t, err)
	for _, e := range entries {
		d.add("pin %s", e.Name())
	}
	maps, err := os.ReadDir(filepath.Join(pinRoot, "maps"))
	ok(d.t, err)
	for _, e := range maps {
		name, _, _ := strings.Cut(e.Name(), "_v") // another layout has another version
		d.add("map %s", name)
	}
}

// pinnedLinks opens every pinned link once.
func pinnedLinks(t *testing.T) map[string]*link.Info {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(pinRoot, "links"))
	ok(t, err)
	out := make(map[string]*link.Info, len(entries))
	for _, e := range entries {
		l, err := link.LoadPinnedLink(filepath.Join(pinRoot, "links", e.Name()), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue // replaced since it was listed
		}
		ok(t, err)
		out[e.Name()], err = l.Info()
		ok(t, err)
		l.Close()
	}
	return out
}

// programTags are the tags of the programs in use: they tell releases apart.
func programTags(t *testing.T) []string {
	t.Helper()
	var tags []string
	for _, info := range pinnedLinks(t) {
		prog, err := ebpf.NewProgramFromID(info.Program)
		ok(t, err)
		got, err := prog.Info()
		ok(t, err)
		prog.Close()
		tags = append(tags, got.Name+" "+got.Tag)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// pinned opens a map of the agent by its pin's name.
func pinned(t *testing.T, pin string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinRoot, "maps", pin), nil)
	ok(t, err)
	return m
}

func each[K, V any](t *testing.T, pin string, fn func(K, V)) {
	t.Helper()
	m := pinned(t, pin)
	defer m.Close()
	walk(t, m, fn)
}

func walk[K, V any](t *testing.T, m *ebpf.Map, fn func(K, V)) {
	t.Helper()
	if m.Type() != ebpf.Array {
		var k K
		var v V
		entries := m.Iterate()
		for entries.Next(&k, &v) {
			fn(k, v)
		}
		ok(t, entries.Err())
		return
	}
	keys, values := make([]K, m.MaxEntries()), make([]V, m.MaxEntries())
	var cursor ebpf.MapBatchCursor
	n, err := m.BatchLookup(&cursor, keys, values, nil)
	if n != len(keys) {
		t.Fatalf("read %d of %d entries: %v", n, len(keys), err)
	}
	for i := range keys {
		fn(keys[i], values[i])
	}
}

// dropped counts packets that the programs stopped, by reason; multicast, which
// pods send at any time, is left out.
func dropped(t *testing.T) map[model.Reason]uint64 {
	t.Helper()
	m := pinned(t, "weft_metrics_v2")
	defer m.Close()
	out := map[model.Reason]uint64{}
	for key := range m.MaxEntries() {
		var perCPU []weftbpf.BpfWeftCounter
		ok(t, m.Lookup(key, &perCPU))
		reason := model.Reason(key / 2)
		for _, c := range perCPU {
			if reason != 0 && uint32(reason) != uint32(weftbpf.BpfWeftReasonWEFT_DROP_MULTICAST) && c.Packets > 0 {
				out[reason] += c.Packets
			}
		}
	}
	return out
}

func ip4(v uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// sameState fails with the lines that only one of the two has.
func sameState(t *testing.T, when string, got, want []string) {
	t.Helper()
	for _, l := range got {
		if !slices.Contains(want, l) {
			t.Errorf("%s, too much in the kernel: %s", when, l)
		}
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("%s, missing in the kernel: %s", when, l)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s, %d facts are in the kernel, want %d", when, len(got), len(want))
	}
}

// fresh stops the agent, wipes all that it keeps in the kernel and starts it
// again: what it then writes is what intent alone asks for.
func (n *node) fresh() []string {
	n.t.Helper()
	ok(n.t, n.agent.Stop())
	ok(n.t, os.RemoveAll(pinRoot))
	n.startAgent("weft-agent")
	return kernelState(n.t)
}

// missing is an error naming the first line of got that want does not have.
func missing(got, want []string) error {
	for _, l := range got {
		if !slices.Contains(want, l) {
			return fmt.Errorf("%s is too much", l)
		}
	}
	return nil
}

// nothingLeft fails for what is on the node and was not before. A folder without
// files is no trace.
func nothingLeft(t *testing.T, when string, before []string) {
	t.Helper()
	for _, left := range inventory(t) {
		path, _ := strings.CutPrefix(left, "file ")
		if info, err := os.Stat(path); err == nil && info.IsDir() || slices.Contains(before, left) {
			continue
		}
		t.Errorf("%s, left on the node: %s", when, left)
	}
}

// hostDevice is the name of the pod's device on the host's side.
func hostDevice(t *testing.T, p *sandbox.Pod) string {
	t.Helper()
	var result struct {
		Interfaces []struct{ Name, Sandbox string }
	}
	ok(t, json.Unmarshal(p.Result, &result))
	for _, i := range result.Interfaces {
		if i.Sandbox == "" {
			return i.Name
		}
	}
	t.Fatalf("no device of the host in %s", p.Result)
	return ""
}
