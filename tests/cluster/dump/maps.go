// SPDX-License-Identifier: Apache-2.0

// Package dump writes down what the kernel knows of a machine, also where none of
// the programs is installed that show it.
package dump

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// limit is the number of entries of a map that are written.
const limit = 20000

// Maps writes those that are pinned below dir, keys and values in hexadecimal.
// What cannot be read is said in its place.
func Maps(w io.Writer, dir string) error { return filepath.WalkDir(dir, below(w, dir)) }

// below writes what is met below dir. Agents that run take folders away meanwhile.
func below(w io.Writer, dir string) fs.WalkDirFunc {
	return func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return nil // a program or a link
		}
		defer func() { _ = m.Close() }()
		fmt.Fprintf(w, "== %s: %s, at most %d entries\n", path, m.Type(), m.MaxEntries())
		if err := entries(w, m); err != nil {
			fmt.Fprintf(w, "(%v)\n", err)
		}
		return nil
	}
}

func entries(w io.Writer, m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.RingBuf, ebpf.PerfEventArray, ebpf.Queue, ebpf.Stack, ebpf.SkStorage, ebpf.CGroupStorage, ebpf.TaskStorage:
		return nil // nothing that could be listed
	}
	var key any // the first: none
	for n := 0; n < limit; {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		if next == nil {
			return nil
		}
		key = next
		value, err := value(m, next)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // gone meanwhile, or an empty place
		}
		if err != nil {
			return fmt.Errorf("reading %x: %w", next, err)
		}
		if !zero(value) || m.Type() != ebpf.Array && m.Type() != ebpf.PerCPUArray {
			fmt.Fprintf(w, "%x  %x\n", next, value)
			n++
		}
	}
	return fmt.Errorf("and more than %d", limit)
}

// value is that of one key; of a map for each CPU, one after the other.
func value(m *ebpf.Map, key []byte) ([]byte, error) {
	switch m.Type() {
	case ebpf.PerCPUArray, ebpf.PerCPUHash, ebpf.LRUCPUHash:
		var each [][]byte
		if err := m.Lookup(key, &each); err != nil {
			return nil, err
		}
		var all []byte
		for _, v := range each {
			all = append(all, v...)
		}
		return all, nil
	case ebpf.ArrayOfMaps, ebpf.HashOfMaps:
		var id uint32 // of the map inside
		err := m.Lookup(key, &id)
		return fmt.Append(nil, id), err
	}
	return m.LookupBytes(key)
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
