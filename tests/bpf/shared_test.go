// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// pool holds collections that no test uses, by their configuration: verifying the
// programs takes longer than most tests.
type pool map[weftbpf.BpfWeftConfig][]*weftbpf.BpfObjects

var loaded = pool{}

const kept = 3 // of one configuration

// take gives an emptied collection until the test ends, or nil.
func (p pool) take(t testing.TB, cfg weftbpf.BpfWeftConfig) *weftbpf.BpfObjects {
	t.Helper()
	free := p[cfg]
	if len(free) == 0 {
		return nil
	}
	objs := free[len(free)-1]
	p[cfg] = free[:len(free)-1]
	if err := emptyMaps(objs); err != nil {
		t.Fatalf("emptying the maps of an earlier test: %v", err)
	}
	t.Cleanup(func() { p.give(cfg, objs) })
	return objs
}

func (p pool) give(cfg weftbpf.BpfWeftConfig, objs *weftbpf.BpfObjects) {
	if len(p[cfg]) == kept {
		objs.Close()
		return
	}
	p[cfg] = append(p[cfg], objs)
}

// emptyMaps makes all maps as they are when just made, but for the ring buffer.
func emptyMaps(objs *weftbpf.BpfObjects) error {
	all := reflect.ValueOf(objs.BpfMaps)
	for i := range all.NumField() {
		m, is := all.Field(i).Interface().(*ebpf.Map)
		if !is {
			continue
		}
		if err := emptyMap(m); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	return nil
}

func emptyMap(m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.Array:
		return zeroArray(m)
	case ebpf.PerCPUArray:
		zero := make([][]byte, ebpf.MustPossibleCPU())
		for i := range zero {
			zero[i] = make([]byte, m.ValueSize())
		}
		for i := range m.MaxEntries() {
			if err := m.Put(i, zero); err != nil {
				return err
			}
		}
		return nil
	case ebpf.RingBuf, ebpf.SkStorage:
		return nil
	}
	return deleteAll(m)
}

func zeroArray(m *ebpf.Map) error {
	n := int(m.MaxEntries())
	keys := make([]uint32, n)
	for i := range keys {
		keys[i] = uint32(i)
	}
	value := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
	_, err := m.BatchUpdate(keys, reflect.MakeSlice(reflect.SliceOf(value), n, n).Interface(), nil)
	return err
}

func deleteAll(m *ebpf.Map) error {
	var keys [][]byte
	var key any                       // nil: the first one
	if m.Type() == ebpf.ArrayOfMaps { // of which tests use the first places
		for i := range uint32(64) {
			var id ebpf.MapID
			if m.Lookup(i, &id) != nil {
				continue
			}
			if err := m.Delete(i); err != nil {
				return err
			}
		}
		return nil
	}
	for {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			return err
		}
		if next == nil {
			break
		}
		keys, key = append(keys, next), next
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}
