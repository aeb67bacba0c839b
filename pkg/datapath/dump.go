// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// dumpBatch is the number of entries fetched by one system call. A bucket of a
// hash must fit whole.
const dumpBatch = 2048

// dump calls fn with every entry of a map, fetched in batches.
func dump[K, V any](m *ebpf.Map, fn func(K, V) error) error {
	keys, values := make([]K, dumpBatch), make([]V, dumpBatch)
	err := batches(m, keys, values, func(n int) error {
		for i := range n {
			if err := fn(keys[i], values[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return dumpSingly(m, fn)
	}
	return err
}

// dumpSingly is dump for kernels that have no batches for this type of map.
func dumpSingly[K, V any](m *ebpf.Map, fn func(K, V) error) error {
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if err := fn(key, value); err != nil {
			return err
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("dumping map: %w", err)
	}
	return nil
}

// dumpRaw is dump for a map whose layout is not known at build time.
func dumpRaw(m *ebpf.Map, fn func(key, value []byte) error) error {
	keys := reflect.MakeSlice(reflect.SliceOf(byteArray(m.KeySize())), dumpBatch, dumpBatch)
	values := reflect.MakeSlice(reflect.SliceOf(byteArray(m.ValueSize())), dumpBatch, dumpBatch)
	err := batches(m, keys.Interface(), values.Interface(), func(n int) error {
		for i := range n {
			if err := fn(keys.Index(i).Bytes(), values.Index(i).Bytes()); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return dumpSingly(m, fn)
	}
	return err
}

// askers is how many places of an array of maps are looked at side by side.
const askers = 128

// dumpMaps calls fn with the index and id of every map in an array of maps. It
// asks for each place: before 6.14 a batch stops at the first empty one. Before
// 6.8 an answer takes the kernel some ten milliseconds (it waits for an RCU grace
// period), but many wait for the same one.
func dumpMaps(outer *ebpf.Map, fn func(index uint32, id ebpf.MapID) error) error {
	ids := make([]ebpf.MapID, outer.MaxEntries()) // 0: none
	errs := make([]error, askers)
	var asking sync.WaitGroup
	for first := range uint32(askers) {
		asking.Go(func() {
			for index := first; index < uint32(len(ids)) && errs[first] == nil; index += askers {
				err := outer.Lookup(index, &ids[index])
				if !errors.Is(err, ebpf.ErrKeyNotExist) {
					errs[first] = err
				}
			}
		})
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("dumping array of maps: %w", err)
	}
	for index, id := range ids {
		if id == 0 {
			continue
		}
		if err := fn(uint32(index), id); err != nil {
			return err
		}
	}
	return nil
}

func byteArray(n uint32) reflect.Type {
	return reflect.ArrayOf(int(n), reflect.TypeFor[byte]())
}

// batches fills keys and values again and again until the map has no more.
func batches(m *ebpf.Map, keys, values any, fn func(n int) error) error {
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		end := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !end {
			return fmt.Errorf("dumping map: %w", err)
		}
		if err := fn(n); err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}

// putAll writes keys and values, in one system call where the kernel can.
func putAll[K, V any](m *ebpf.Map, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	_, err := m.BatchUpdate(keys, values, nil)
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return fullError(m, err)
	}
	for i := range keys {
		if err := m.Put(keys[i], values[i]); err != nil {
			return fullError(m, err)
		}
	}
	return nil
}

// fullError says of a map without room what the kernel calls a list of arguments
// that is too long.
func fullError(m *ebpf.Map, err error) error {
	if isFull(err) {
		return fmt.Errorf("the map is full, it has room for %d: %w", m.MaxEntries(), err)
	}
	return err
}

// isFull tells whether an update failed for want of room.
func isFull(err error) bool { return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) }
