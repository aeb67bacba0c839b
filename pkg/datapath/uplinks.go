// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// SetUplinks makes these devices, and no others, the ones by which packets leave
// the cluster. It goes on after a failure and reports all of them.
func (d *Datapath) SetUplinks(uplinks []model.Uplink) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	had, err := d.attacher.attached(atUplink)
	if err != nil {
		return fmt.Errorf("listing uplinks: %w", err)
	}
	var errs []error
	for _, name := range had { // first, as a device that has another name now must not have both
		if slices.ContainsFunc(uplinks, func(u model.Uplink) bool { return u.Name == name }) {
			continue
		}
		if err := d.attacher.detach(atUplink, name); err != nil {
			errs = append(errs, fmt.Errorf("detaching from uplink %s: %w", name, err))
		}
	}
	rows := make(map[uint32]weftbpf.BpfWeftUplinkRow, len(uplinks))
	for _, u := range uplinks {
		rows[u.Index] = encodeUplink(u)
		if err := d.addUplink(u, rows[u.Index]); err != nil {
			errs = append(errs, fmt.Errorf("making %s an uplink: %w", u.Name, err))
		}
	}
	return errors.Join(append(errs, keepOnly(d.maps.WeftUplink, rows))...)
}

// addUplink writes the row first: the programs pass what has none.
func (d *Datapath) addUplink(u model.Uplink, row weftbpf.BpfWeftUplinkRow) error {
	if err := d.maps.WeftUplink.Put(u.Index, row); err != nil {
		return fmt.Errorf("writing its row: %w", err)
	}
	return d.attacher.attach(atUplink, u.Index, u.Name)
}

func encodeUplink(u model.Uplink) weftbpf.BpfWeftUplinkRow {
	var row weftbpf.BpfWeftUplinkRow
	if u.IPv4.Is4() {
		row.Ip4 = wire32(u.IPv4)
	}
	if u.IPv6.Is6() {
		row.Ip6 = u.IPv6.As16()
	}
	return row
}

// Uplinks lists the devices that are uplinks, by name; an earlier agent may have
// made them so. leave are those by which pods leave under an address of the host's.
func (d *Datapath) Uplinks() (all, leave []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all, err = d.attacher.attached(atUplink); err != nil {
		return nil, nil, fmt.Errorf("listing uplinks: %w", err)
	}
	masquerades := make(map[uint32]bool)
	err = dump(d.maps.WeftUplink, func(index uint32, row weftbpf.BpfWeftUplinkRow) error {
		masquerades[index] = row != (weftbpf.BpfWeftUplinkRow{})
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing uplinks: %w", err)
	}
	for _, name := range all {
		if link, err := net.InterfaceByName(name); err == nil && masquerades[uint32(link.Index)] {
			leave = append(leave, name)
		}
	}
	return all, leave, nil
}

// SetHome tells the host's own addresses: flows that left with another one are
// over.
func (d *Datapath) SetHome(addrs []netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := make(map[weftbpf.BpfWeftHomeKey]uint32, len(addrs))
	for _, a := range addrs {
		var key weftbpf.BpfWeftHomeKey
		copy(key.Addr[:], a.AsSlice())
		rows[key] = 1
		if err := d.maps.WeftHome.Put(key, rows[key]); err != nil {
			return fmt.Errorf("entering the host's address %s: %w", a, err)
		}
	}
	return keepOnly(d.maps.WeftHome, rows)
}

// keepOnly removes what is not in rows from a map.
func keepOnly[K comparable, V any](m *ebpf.Map, rows map[K]V) error {
	var surplus []K
	err := dump(m, func(key K, _ V) error {
		if _, ok := rows[key]; !ok {
			surplus = append(surplus, key)
		}
		return nil
	})
	for _, key := range surplus {
		if e := ignoreMissing(m.Delete(key)); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}
