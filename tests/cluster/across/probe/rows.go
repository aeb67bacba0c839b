// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

const mapsDir = "/sys/fs/bpf/weft/maps"

// rows prints which identity this node's kernel takes each single address for. An
// address that leads to an endpoint has the identity of the endpoint's row.
func rows() error {
	endpoints, err := pinned("weft_ep")
	if err != nil {
		return err
	}
	defer func() { _ = endpoints.Close() }()
	all := make(map[string]uint32)
	for _, name := range []string{"weft_ip4", "weft_ip6"} {
		if err := addresses(name, endpoints, all); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}

func pinned(name string) (*ebpf.Map, error) {
	found, err := filepath.Glob(filepath.Join(mapsDir, name+"_v*"))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fmt.Errorf("the pins of %s are %v", name, found), err)
	}
	return ebpf.LoadPinnedMap(found[0], &ebpf.LoadPinOptions{ReadOnly: true})
}

// addresses reads a map of prefixes: 4 bytes of length and the address lead to 4 bytes of
// identity and 2 of the endpoint's number.
func addresses(name string, endpoints *ebpf.Map, all map[string]uint32) error {
	m, err := pinned(name)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }()
	var last any // nil: the first
	for {
		key, err := m.NextKeyBytes(last)
		if err != nil || key == nil {
			return err
		}
		last = key
		value, err := m.LookupBytes(key)
		if err != nil {
			return err
		}
		ip, ok := netip.AddrFromSlice(key[4:])
		if !ok || value == nil || binary.NativeEndian.Uint32(key) != uint32(ip.BitLen()) { //nolint:gosec // 32 or 128
			continue // a range, or gone meanwhile
		}
		identity := binary.NativeEndian.Uint32(value)
		if slot := binary.NativeEndian.Uint16(value[4:]); slot != 0 {
			row, err := endpoints.LookupBytes(uint32(slot))
			if err != nil {
				return err
			}
			identity = binary.NativeEndian.Uint32(row[4:])
		}
		all[ip.String()] = identity
	}
}
