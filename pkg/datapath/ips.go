// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// ApplyIPs writes and removes what is known of addresses, and then has the
// kernel decide again the flows of those for which the answer is another one
// now. A prefix in both lists is removed. The absent is removed with success.
func (d *Datapath) ApplyIPs(upsert []model.IPRow, remove []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	prefixes := slices.Clone(remove)
	for _, row := range upsert {
		prefixes = append(prefixes, row.Prefix)
	}
	before, err := d.lookUpIPs(prefixes)
	if err != nil {
		return err
	}
	all, err := d.pins.markUnswept()
	if err != nil {
		return err
	}
	if err := d.putIPs(upsert); err != nil {
		return fmt.Errorf("writing addresses: %w", err)
	}
	for _, prefix := range remove {
		if err := ignoreMissing(d.deleteIP(prefix)); err != nil {
			return fmt.Errorf("removing %s: %w", prefix, err)
		}
	}
	after, err := d.lookUpIPs(prefixes)
	if err != nil {
		return err
	}
	var changed []netip.Prefix
	for i, prefix := range prefixes {
		if before[i] != after[i] {
			changed = append(changed, prefix)
		}
	}
	if all { // an earlier change was cut short before its sweep
		changed = everyAddress()
	}
	if err := d.sweep(changed); err != nil {
		return err
	}
	return d.pins.markSwept()
}

// lookUpIPs tells what the kernel knows of each prefix: the answer for those of
// its addresses that no longer prefix covers.
func (d *Datapath) lookUpIPs(prefixes []netip.Prefix) ([]weftbpf.BpfWeftIp, error) {
	found := make([]weftbpf.BpfWeftIp, len(prefixes))
	for i, prefix := range prefixes {
		var err error
		world := model.IdentityWorldIPv4
		if prefix.Addr().Is4() {
			err = d.maps.WeftIp4.Lookup(ip4Key(prefix), &found[i])
		} else {
			world = model.IdentityWorldIPv6
			err = d.maps.WeftIp6.Lookup(ip6Key(prefix), &found[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			found[i], err = weftbpf.BpfWeftIp{Identity: uint32(world)}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("looking up %s: %w", prefix, err)
		}
	}
	return found, nil
}

func (d *Datapath) putIPs(rows []model.IPRow) error {
	var keys4 []weftbpf.BpfWeftIp4Key
	var keys6 []weftbpf.BpfWeftIp6Key
	var values4, values6 []weftbpf.BpfWeftIp
	for _, row := range rows {
		value := weftbpf.BpfWeftIp{Identity: uint32(row.Identity), Slot: row.Slot, Node: row.Node}
		if row.Prefix.Addr().Is4() {
			keys4, values4 = append(keys4, ip4Key(row.Prefix)), append(values4, value)
		} else {
			keys6, values6 = append(keys6, ip6Key(row.Prefix)), append(values6, value)
		}
	}
	if err := putAll(d.maps.WeftIp4, keys4, values4); err != nil {
		return err
	}
	return putAll(d.maps.WeftIp6, keys6, values6)
}

func (d *Datapath) deleteIP(prefix netip.Prefix) error {
	if prefix.Addr().Is4() {
		return d.maps.WeftIp4.Delete(ip4Key(prefix))
	}
	return d.maps.WeftIp6.Delete(ip6Key(prefix))
}

// IPs reads back what the kernel knows of addresses, sorted by prefix.
func (d *Datapath) IPs() ([]model.IPRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var rows []model.IPRow
	add := func(addr netip.Addr, bits uint32, value weftbpf.BpfWeftIp) {
		rows = append(rows, model.IPRow{
			Prefix:   netip.PrefixFrom(addr, int(bits)),
			Identity: model.IdentityID(value.Identity), Slot: value.Slot, Node: value.Node,
		})
	}
	err := dump(d.maps.WeftIp4, func(key weftbpf.BpfWeftIp4Key, value weftbpf.BpfWeftIp) error {
		add(addr4(key.Addr), key.Prefixlen, value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = dump(d.maps.WeftIp6, func(key weftbpf.BpfWeftIp6Key, value weftbpf.BpfWeftIp) error {
		add(netip.AddrFrom16(key.Addr), key.Prefixlen, value)
		return nil
	})
	slices.SortFunc(rows, func(a, b model.IPRow) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return rows, err
}

func ip4Key(p netip.Prefix) weftbpf.BpfWeftIp4Key {
	p = p.Masked()
	return weftbpf.BpfWeftIp4Key{Prefixlen: uint32(p.Bits()), Addr: wire32(p.Addr())}
}

func ip6Key(p netip.Prefix) weftbpf.BpfWeftIp6Key {
	p = p.Masked()
	return weftbpf.BpfWeftIp6Key{Prefixlen: uint32(p.Bits()), Addr: p.Addr().As16()}
}
