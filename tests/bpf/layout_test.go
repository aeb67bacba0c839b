// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// The types that Go writes and reads, against what the kernel has of them.
func TestLayouts(t *testing.T) {
	n := newNode(t)
	for _, tc := range []struct {
		m          *ebpf.Map
		key, value any
	}{
		{n.objs.WeftCt4, weftbpf.BpfWeftCt4Key{}, weftbpf.BpfWeftCt4Row{}},
		{n.objs.WeftCt6, weftbpf.BpfWeftCt6Key{}, weftbpf.BpfWeftCt6Row{}},
		{n.objs.WeftCtn4, weftbpf.BpfWeftCt4Key{}, weftbpf.BpfWeftCt{}},
		{n.objs.WeftCtn6, weftbpf.BpfWeftCt6Key{}, weftbpf.BpfWeftCt{}},
		{n.objs.WeftEp, uint32(0), weftbpf.BpfWeftEpRow{}},
		{n.objs.WeftEpstat, uint32(0), weftbpf.BpfWeftEpstatRow{}},
		{n.objs.WeftIp4, weftbpf.BpfWeftIp4Key{}, weftbpf.BpfWeftIp{}},
		{n.objs.WeftIp6, weftbpf.BpfWeftIp6Key{}, weftbpf.BpfWeftIp{}},
		{n.objs.WeftFrag, weftbpf.BpfWeftFragKey{}, weftbpf.BpfWeftFragRow{}},
		{n.objs.WeftMetrics, uint32(0), weftbpf.BpfWeftCounter{}},
		{n.objs.WeftDrops, weftbpf.BpfWeftDropKey{}, weftbpf.BpfWeftDrop{}},
	} {
		handle, err := tc.m.Handle()
		if err != nil {
			t.Errorf("%s: BTF of the loaded map: %v", tc.m, err)
			continue
		}
		spec, err := handle.Spec(nil)
		if err != nil {
			t.Fatal(err)
		}
		handle.Close()
		for _, v := range []any{tc.key, tc.value} {
			sameLayout(t, spec, reflect.TypeOf(v))
		}
	}
}

// The types that no map names, from the object itself.
func TestLayoutsOfArguments(t *testing.T) {
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{weftbpf.BpfWeftPolKey{}, weftbpf.BpfWeftPol{}, weftbpf.BpfWeftPendRow{}, weftbpf.BpfWeftFlow{},
		weftbpf.BpfWeftConfig{}, weftbpf.BpfWeftSweep{}, weftbpf.BpfWeftSweepPrefix{}, weftbpf.BpfWeftGc{}} {
		sameLayout(t, spec.Types, reflect.TypeOf(v))
	}
}

// sameLayout compares a Go type with the C type that it was made from.
func sameLayout(t *testing.T, spec *btf.Spec, goType reflect.Type) {
	t.Helper()
	if goType.Kind() != reflect.Struct {
		return
	}
	var c *btf.Struct
	if err := spec.TypeByName(cName(goType.Name()), &c); err != nil {
		t.Errorf("%s: %v", goType, err)
		return
	}
	if uintptr(c.Size) != goType.Size() {
		t.Errorf("%s: %d bytes in Go, %d in C", goType, goType.Size(), c.Size)
	}
	at := map[string]reflect.StructField{}
	for i := range goType.NumField() {
		at[goType.Field(i).Name] = goType.Field(i)
	}
	for _, m := range c.Members {
		name := ""
		for _, part := range strings.Split(m.Name, "_") {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
		field, ok := at[name]
		size, err := btf.Sizeof(m.Type)
		if err != nil || !ok || field.Offset != uintptr(m.Offset.Bytes()) || field.Type.Size() != uintptr(size) {
			t.Errorf("%s.%s: Go has offset %d, size %v; C has %d, %d", goType, m.Name, field.Offset, field.Type, m.Offset.Bytes(), size)
		}
	}
}

// cName makes weft_ct4_row of BpfWeftCt4Row.
func cName(goName string) string {
	var b strings.Builder
	for i, r := range strings.TrimPrefix(goName, "Bpf") {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Every program loads, within a fraction of what the verifier is ready to walk.
func TestVerifier(t *testing.T) {
	for name, change := range map[string]func(*weftbpf.BpfWeftConfig){
		"native": nil, "tunnel": func(c *weftbpf.BpfWeftConfig) { c.TunnelPort = vxlanPort },
	} {
		t.Run(name, func(t *testing.T) { verified(t, load(t, change)) })
	}
}

func verified(t *testing.T, objs *weftbpf.BpfObjects) {
	t.Helper()
	progs := reflect.ValueOf(objs.BpfPrograms)
	for i := range progs.NumField() {
		info, err := progs.Field(i).Interface().(*ebpf.Program).Info()
		if err != nil {
			t.Fatal(err)
		}
		name := progs.Type().Field(i).Tag.Get("ebpf")
		size, _ := info.TranslatedSize()
		walked, ok := info.VerifiedInstructions()
		t.Logf("%-16s %6d instructions, %7d walked by the verifier", name, size/8, walked)
		if ok && walked > 500_000 {
			t.Errorf("%s: the verifier walks %d instructions; at 1,000,000 it gives up", name, walked)
		}
	}
}

// The reasons have consecutive numbers, each with counters of its own.
func TestReasonsHaveCounters(t *testing.T) {
	objs := load(t, nil)
	if got, want := objs.WeftMetrics.MaxEntries(), 2*uint32(weftbpf.BpfWeftReasonWEFT_REASON_MAX); got != want {
		t.Errorf("%d counters for %d reasons and directions", got, want)
	}
}

// Every reason stands in the table of docs/DATAPATH.md under its number.
func TestReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/DATAPATH.md")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var reasons *btf.Enum
	if err := spec.Types.TypeByName("weft_reason", &reasons); err != nil {
		t.Fatal(err)
	}
	for _, v := range reasons.Values {
		name, isDrop := strings.CutPrefix(v.Name, "WEFT_DROP_")
		if row := fmt.Sprintf("| %d | `%s` |", v.Value, name); isDrop && !strings.Contains(string(doc), row) {
			t.Errorf("no row %q in docs/DATAPATH.md", row)
		}
	}
}

// Names that fit the kernel's 15 characters are not cut in bpftool's output.
func TestNames(t *testing.T) {
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range spec.Maps {
		names = append(names, name)
	}
	for name := range spec.Programs {
		names = append(names, name)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			continue
		}
		if len(name) > 15 || !strings.HasPrefix(name, "weft_") {
			t.Errorf("%q: want weft_ and at most 15 characters", name)
		}
	}
}
