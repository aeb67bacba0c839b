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

// errNoTunnel is a programmer's error: what it guards has no room without a tunnel.
var errNoTunnel = errors.New("the programs were loaded without a tunnel (Config.TunnelPort)")

// tunnelMaps have one place, and so take no memory, where there is no tunnel.
func tunnelMaps() []string { return []string{"weft_node", "weft_outer", "weft_known"} }

// SetTunnel makes this device, and no other, the one of the tunnel between nodes.
// The zero device ends the tunnel. What is to be sent by a tunnel that has no
// device is dropped.
func (d *Datapath) SetTunnel(dev model.TunnelDevice) error {
	if dev.Index != 0 && !d.tunnel {
		return fmt.Errorf("making %s the device of the tunnel: %w", dev.Name, errNoTunnel)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	had, err := d.attacher.attached(atTunnel)
	if err != nil {
		return fmt.Errorf("listing devices of the tunnel: %w", err)
	}
	if dev.Index != 0 { // before packets are sent there
		if err := d.attacher.attach(atTunnel, dev.Index, dev.Name); err != nil {
			return fmt.Errorf("attaching to %s, the device of the tunnel: %w", dev.Name, err)
		}
	}
	row := weftbpf.BpfWeftTunnelRow{Ifindex: dev.Index, Mtu: uint32(dev.MTU)}
	if err := d.maps.WeftTunnel.Put(uint32(0), row); err != nil {
		return fmt.Errorf("writing the row of %q, the device of the tunnel: %w", dev.Name, err)
	}
	for _, name := range had {
		if name == dev.Name && dev.Index != 0 {
			continue
		}
		if err := d.attacher.detach(atTunnel, name); err != nil {
			return fmt.Errorf("detaching from %s, once the device of the tunnel: %w", name, err)
		}
	}
	return nil
}

// Tunnel is the device of the tunnel, without its name; an earlier agent may have
// set it.
func (d *Datapath) Tunnel() (model.TunnelDevice, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var row weftbpf.BpfWeftTunnelRow
	if err := d.maps.WeftTunnel.Lookup(uint32(0), &row); err != nil {
		return model.TunnelDevice{}, fmt.Errorf("reading the row of the tunnel's device: %w", err)
	}
	return model.TunnelDevice{Index: row.Ifindex, MTU: uint16(row.Mtu)}, nil
}

// ApplyNodes writes and removes nodes at the other end of the tunnel. A number in
// both lists is removed. The absent is removed with success.
func (d *Datapath) ApplyNodes(upsert []model.NodeRow, remove []uint16) error {
	if len(upsert)+len(remove) == 0 {
		return nil
	}
	if !d.tunnel {
		return fmt.Errorf("writing nodes: %w", errNoTunnel)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range upsert {
		if err := d.putNode(n.Number, encodeNode(n)); err != nil {
			return fmt.Errorf("writing node %d at %s: %w", n.Number, n.Outer, err)
		}
	}
	for _, number := range remove {
		if err := d.putNode(number, weftbpf.BpfWeftNodeRow{}); err != nil {
			return fmt.Errorf("removing node %d: %w", number, err)
		}
	}
	return nil
}

// putNode writes a node's row, then its end of the tunnel, by which frames are
// believed to be its own. The end that it had before goes, unless another node has
// it now.
func (d *Datapath) putNode(number uint16, row weftbpf.BpfWeftNodeRow) error {
	index := uint32(number)
	var old weftbpf.BpfWeftNodeRow
	if err := d.maps.WeftNode.Lookup(index, &old); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("there is room for %d nodes", d.maps.WeftNode.MaxEntries())
		}
		return err
	}
	if old.Family != 0 && (old.Family != row.Family || old.Outer != row.Outer) {
		if err := d.dropOuter(old.Outer, index); err != nil {
			return err
		}
	}
	if err := d.maps.WeftNode.Put(index, row); err != nil {
		return err
	}
	if row.Family == 0 {
		return nil
	}
	return fullError(d.maps.WeftOuter, d.maps.WeftOuter.Put(weftbpf.BpfWeftOuterKey{Addr: row.Outer}, index))
}

func (d *Datapath) dropOuter(outer [16]uint8, number uint32) error {
	key := weftbpf.BpfWeftOuterKey{Addr: outer}
	var has uint32
	err := d.maps.WeftOuter.Lookup(key, &has)
	if err != nil || has != number {
		return ignoreMissing(err)
	}
	return ignoreMissing(d.maps.WeftOuter.Delete(key))
}

// Nodes reads the rows back, sorted by number. One whose end of the tunnel is not
// entered, or entered for another node, comes back without it.
func (d *Datapath) Nodes() ([]model.NodeRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var rows []model.NodeRow
	err := dump(d.maps.WeftNode, func(number uint32, row weftbpf.BpfWeftNodeRow) error {
		if row.Used == 0 {
			return nil
		}
		n := decodeNode(uint16(number), row)
		var has uint32
		err := d.maps.WeftOuter.Lookup(weftbpf.BpfWeftOuterKey{Addr: row.Outer}, &has)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("looking up the tunnel's end %s: %w", n.Outer, err)
		}
		if err != nil || has != number {
			n.Outer = netip.Addr{}
		}
		rows = append(rows, n)
		return nil
	})
	slices.SortFunc(rows, func(a, b model.NodeRow) int { return int(a.Number) - int(b.Number) })
	return rows, err
}

// ApplyIdentities adds and removes identities that policy sets know. An identity in
// both lists is removed. The absent is removed with success.
func (d *Datapath) ApplyIdentities(upsert, remove []model.IdentityID) error {
	if len(upsert)+len(remove) == 0 {
		return nil
	}
	if !d.tunnel {
		return fmt.Errorf("writing identities: %w", errNoTunnel)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	keys, values := make([]uint32, len(upsert)), make([]uint32, len(upsert))
	for i, id := range upsert {
		keys[i], values[i] = uint32(id), 1
	}
	if err := putAll(d.maps.WeftKnown, keys, values); err != nil {
		return fmt.Errorf("writing identities: %w", err)
	}
	for _, id := range remove {
		if err := ignoreMissing(d.maps.WeftKnown.Delete(uint32(id))); err != nil {
			return fmt.Errorf("removing identity %d: %w", id, err)
		}
	}
	return nil
}

// Identities reads back which identities policy sets know, sorted.
func (d *Datapath) Identities() ([]model.IdentityID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []model.IdentityID
	err := dump(d.maps.WeftKnown, func(id, _ uint32) error {
		ids = append(ids, model.IdentityID(id))
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// forgetTunnel empties what was carried over from a time with a tunnel, so that
// none of it comes back with the next one, whose nodes may be others.
func (d *Datapath) forgetTunnel() error {
	if d.tunnel {
		return nil
	}
	err := errors.Join(
		d.maps.WeftNode.Put(uint32(0), weftbpf.BpfWeftNodeRow{}),
		d.maps.WeftTunnel.Put(uint32(0), weftbpf.BpfWeftTunnelRow{}),
		keepOnly(d.maps.WeftOuter, map[weftbpf.BpfWeftOuterKey]uint32{}),
		keepOnly(d.maps.WeftKnown, map[uint32]uint32{}))
	if err != nil {
		return fmt.Errorf("forgetting the tunnel: %w", err)
	}
	return nil
}

func encodeNode(n model.NodeRow) weftbpf.BpfWeftNodeRow {
	row := weftbpf.BpfWeftNodeRow{Used: 1}
	copy(row.Outer[:], n.Outer.AsSlice())
	switch {
	case n.Outer.Is4():
		row.Family = 4
	case n.Outer.Is6():
		row.Family = 6
	}
	if n.IPv4.IsValid() && n.IPv4.Bits() > 0 {
		row.Ip4, row.Bits4 = wire32(n.IPv4.Masked().Addr()), uint8(n.IPv4.Bits())
		row.Mask4 = wire32(netip.AddrFrom4([4]byte(net.CIDRMask(n.IPv4.Bits(), 32))))
	}
	if n.IPv6.IsValid() && n.IPv6.Bits() > 0 {
		row.Ip6, row.Bits6 = n.IPv6.Masked().Addr().As16(), uint8(n.IPv6.Bits())
		row.Mask6 = [16]byte(net.CIDRMask(n.IPv6.Bits(), 128))
	}
	return row
}

func decodeNode(number uint16, row weftbpf.BpfWeftNodeRow) model.NodeRow {
	n := model.NodeRow{Number: number}
	switch row.Family {
	case 4:
		n.Outer = netip.AddrFrom4([4]byte(row.Outer[:4]))
	case 6:
		n.Outer = netip.AddrFrom16(row.Outer)
	}
	if row.Bits4 > 0 {
		n.IPv4 = netip.PrefixFrom(addr4(row.Ip4), int(row.Bits4))
	}
	if row.Bits6 > 0 {
		n.IPv6 = netip.PrefixFrom(netip.AddrFrom16(row.Ip6), int(row.Bits6))
	}
	return n
}
