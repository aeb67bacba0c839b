// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// ApplyEndpoint writes an endpoint's row, makes its ring of unanswered flows,
// and last points its device to it: until then its packets are dropped. The
// policy set it names must have been applied. An equal row writes nothing.
func (d *Datapath) ApplyEndpoint(row model.EndpointRow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.applyEndpoint(row); err != nil {
		return fmt.Errorf("endpoint in slot %d: %w", row.Slot, err)
	}
	return nil
}

func (d *Datapath) applyEndpoint(row model.EndpointRow) error {
	if row.Slot == 0 || uint32(row.Slot) >= d.maps.WeftEp.MaxEntries() {
		return fmt.Errorf("slots go from 1 to %d", d.maps.WeftEp.MaxEntries()-1)
	}
	if row.IfIndex == 0 {
		return errors.New("it has no device")
	}
	var set setPlace
	if row.Set != (model.SetHash{}) {
		var ok bool
		if set, ok = d.sets.places[row.Set]; !ok {
			return fmt.Errorf("%x: %w", row.Set, ErrUnknownSet)
		}
	}
	if err := d.ensureRing(uint32(row.Slot)); err != nil {
		return err
	}
	if err := d.writeRow(uint32(row.Slot), encodeEndpoint(row, set)); err != nil {
		return err
	}
	return d.pointDevice(row.IfIndex, uint32(row.Slot))
}

// writeRow brings a row to want. When what was decided for the endpoint may no
// longer hold, the epoch moves, twice, each time in a write of its own: a packet
// that meets the first write half done bears the first of the two epochs, or
// the old one, and is decided again.
func (d *Datapath) writeRow(slot uint32, want weftbpf.BpfWeftEpRow) error {
	var have weftbpf.BpfWeftEpRow
	if err := d.maps.WeftEp.Lookup(slot, &have); err != nil {
		return fmt.Errorf("reading its row: %w", err)
	}
	want.Epoch = have.Epoch
	if have == want {
		return nil
	}
	if have.Ifindex != 0 && have.Ifindex != want.Ifindex {
		if err := d.clearDevice(have.Ifindex, slot); err != nil {
			return err
		}
	}
	writes := 1
	if !sameDecisions(have, want) {
		writes = 2
	}
	for range writes {
		if writes > 1 {
			d.epoch++
			want.Epoch = d.epoch
		}
		if err := d.maps.WeftEp.Put(slot, want); err != nil {
			return fmt.Errorf("writing its row: %w", err)
		}
	}
	return nil
}

// sameDecisions tells whether flows decided under one row stand under the other.
func sameDecisions(have, want weftbpf.BpfWeftEpRow) bool {
	return have.Epoch != 0 && have.Ifindex != 0 &&
		have.Identity == want.Identity && have.Polset == want.Polset && have.Flags == want.Flags &&
		have.Id == want.Id && have.Ip4 == want.Ip4 && have.Ip6 == want.Ip6
}

// DeleteEndpoint frees a slot; a free one is no error. The row keeps its epoch,
// so that the next endpoint there, even after a restart, never takes a flow of
// this one for its own.
func (d *Datapath) DeleteEndpoint(slot uint16) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.deleteEndpoint(uint32(slot)); err != nil {
		return fmt.Errorf("removing endpoint in slot %d: %w", slot, err)
	}
	return nil
}

func (d *Datapath) deleteEndpoint(slot uint32) error {
	var row weftbpf.BpfWeftEpRow
	if err := d.maps.WeftEp.Lookup(slot, &row); err != nil {
		return ignoreMissing(err) // beyond the last slot
	}
	if row.Ifindex != 0 {
		if err := d.clearDevice(row.Ifindex, slot); err != nil {
			return err
		}
		if err := d.maps.WeftEp.Put(slot, weftbpf.BpfWeftEpRow{Epoch: row.Epoch}); err != nil {
			return err
		}
	}
	err := d.maps.WeftPend.Delete(slot)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing its ring of unanswered flows: %w", err)
	}
	return d.maps.WeftEpstat.Put(slot, weftbpf.BpfWeftEpstatRow{})
}

// ensureRing makes the ring of unanswered flows, which is what bounds them.
func (d *Datapath) ensureRing(slot uint32) error {
	var id ebpf.MapID
	err := d.maps.WeftPend.Lookup(slot, &id)
	if !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	spec := d.ringSpec.Copy()
	spec.Name = "weft_pend_ring"
	ring, err := ebpf.NewMap(spec)
	if err != nil {
		return fmt.Errorf("making its ring of unanswered flows: %w", err)
	}
	defer ring.Close()
	if err := d.waits.put(d.maps.WeftPend, slot, ring); err != nil {
		return fmt.Errorf("putting its ring of unanswered flows in place: %w", err)
	}
	return nil
}

// pointDevice makes a device's packets find the slot.
func (d *Datapath) pointDevice(ifindex, slot uint32) error {
	m := d.deviceMap(ifindex)
	var have uint32
	err := m.Lookup(ifindex, &have)
	if err == nil && have == slot {
		return nil
	}
	if err := ignoreMissing(err); err != nil {
		return fmt.Errorf("looking up its device: %w", err)
	}
	if err := m.Put(ifindex, slot); err != nil {
		return fmt.Errorf("pointing its device to it: %w", err)
	}
	return nil
}

// clearDevice undoes pointDevice, unless the device belongs to another slot by
// now.
func (d *Datapath) clearDevice(ifindex, slot uint32) error {
	m := d.deviceMap(ifindex)
	var have uint32
	if err := m.Lookup(ifindex, &have); err != nil || have != slot {
		return ignoreMissing(err)
	}
	if m == d.maps.WeftIf {
		return m.Put(ifindex, uint32(0))
	}
	return ignoreMissing(m.Delete(ifindex))
}

func (d *Datapath) deviceMap(ifindex uint32) *ebpf.Map {
	if ifindex < d.maps.WeftIf.MaxEntries() {
		return d.maps.WeftIf
	}
	return d.maps.WeftIfHi
}

// Endpoints reads the rows back from the kernel, by slot. A row whose device
// does not point to it, or whose device is gone, is not whole: it comes without
// the device, so that it equals no desired row.
func (d *Datapath) Endpoints() ([]model.EndpointRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	names := make(map[uint32]string, len(devices))
	for _, dev := range devices {
		names[uint32(dev.Index)] = dev.Name
	}
	sets := make(map[uint32]model.SetHash, len(d.sets.places))
	for hash, place := range d.sets.places {
		sets[place.index] = hash
	}
	var rows []model.EndpointRow
	err = dump(d.maps.WeftEp, func(slot uint32, have weftbpf.BpfWeftEpRow) error {
		if have.Ifindex == 0 {
			return nil
		}
		row := decodeEndpoint(uint16(slot), have)
		row.Set = sets[have.Polset]
		row.IfName = names[have.Ifindex]
		var pointed uint32
		if err := d.deviceMap(have.Ifindex).Lookup(have.Ifindex, &pointed); ignoreMissing(err) != nil {
			return err
		}
		if pointed != slot {
			row.IfIndex = 0
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

func encodeEndpoint(row model.EndpointRow, set setPlace) weftbpf.BpfWeftEpRow {
	flags := weftbpf.BpfWeftEpFlag(set.flags)
	out := weftbpf.BpfWeftEpRow{
		Ifindex: row.IfIndex, Identity: uint32(row.Identity), Polset: set.index, Mtu: row.MTU,
		Mac: row.MAC, HostMac: row.HostMAC, Ll6: linkLocal(row.MAC), Id: row.ID,
	}
	if row.IPv4.Is4() {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_IPV4
		out.Ip4 = wire32(row.IPv4)
	}
	if row.IPv6.Is6() {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_IPV6
		out.Ip6 = row.IPv6.As16()
	}
	if row.EnforceEgress {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_EGRESS
	}
	if row.EnforceIngress {
		flags |= weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS
	}
	out.Flags = uint16(flags)
	return out
}

func decodeEndpoint(slot uint16, have weftbpf.BpfWeftEpRow) model.EndpointRow {
	flags := weftbpf.BpfWeftEpFlag(have.Flags)
	row := model.EndpointRow{
		Slot: slot, ID: have.Id, IfIndex: have.Ifindex, Identity: model.IdentityID(have.Identity),
		EnforceEgress:  flags&weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_EGRESS != 0,
		EnforceIngress: flags&weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS != 0,
		MTU:            have.Mtu, MAC: have.Mac, HostMAC: have.HostMac,
	}
	if flags&weftbpf.BpfWeftEpFlagWEFT_EP_IPV4 != 0 {
		row.IPv4 = addr4(have.Ip4)
	}
	if flags&weftbpf.BpfWeftEpFlagWEFT_EP_IPV6 != 0 {
		row.IPv6 = netip.AddrFrom16(have.Ip6)
	}
	return row
}

// linkLocal is the address that a device gives itself from its MAC (EUI-64).
func linkLocal(mac model.MAC) [16]uint8 {
	return [16]uint8{0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
}

// wire32 is an IPv4 address as the kernel holds it, in the order of the wire.
func wire32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

func addr4(v uint32) netip.Addr {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// ignoreMissing makes the deletion of the absent succeed.
func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
