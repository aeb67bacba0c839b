// SPDX-License-Identifier: Apache-2.0

package endpointstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/model"
)

// recordVersion moves when a record's meaning changes.
const recordVersion = 1

// Record is an endpoint, the CNI network it was made for, and its pod as it was
// declared last.
type Record struct {
	model.Endpoint
	Network  string
	Workload *Workload // nil: the record is older than this field
}

// Key is the record's attachment.
func (r Record) Key() attachment.Key { return attachment.Of(r.Endpoint) }

// file is a record as it is written.
type file struct {
	Version     int        `json:"version"`
	ID          uint32     `json:"id"`
	Slot        uint16     `json:"slot"`
	Network     string     `json:"network"`
	Namespace   string     `json:"namespace"`
	Pod         string     `json:"pod"`
	PodUID      string     `json:"podUID,omitempty"`
	ContainerID string     `json:"containerID"`
	IfName      string     `json:"ifname"`
	NetNS       string     `json:"netns"`
	HostIfName  string     `json:"hostIfname"`
	HostIfIndex uint32     `json:"hostIfindex,omitempty"`
	MAC         string     `json:"mac"`
	HostMAC     string     `json:"hostMAC"`
	IPv4        netip.Addr `json:"ipv4"`
	IPv6        netip.Addr `json:"ipv6"`
	MTU         uint16     `json:"mtu"`
	State       string     `json:"state"`
	Workload    *workload  `json:"workload,omitempty"`
}

func encode(r Record) ([]byte, error) {
	ep := r.Endpoint
	data, err := json.MarshalIndent(file{
		Version: recordVersion, ID: ep.ID, Slot: ep.Slot, Network: r.Network,
		Namespace: ep.Pod.Namespace, Pod: ep.Pod.Name, PodUID: ep.PodUID,
		ContainerID: ep.ContainerID, IfName: ep.IfName, NetNS: ep.NetNS,
		HostIfName: ep.HostIfName, HostIfIndex: ep.HostIfIndex,
		MAC: net.HardwareAddr(ep.MAC[:]).String(), HostMAC: net.HardwareAddr(ep.HostMAC[:]).String(),
		IPv4: ep.IPv4, IPv6: ep.IPv6, MTU: ep.MTU, State: string(ep.State), Workload: r.Workload.written(),
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return append(data, '\n'), nil
}

// decode reads a record and refuses what could not have been written by encode.
func decode(data []byte) (Record, error) {
	var f file
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Record{}, fmt.Errorf("decoding: %w", err)
	}
	if f.Version != recordVersion {
		return Record{}, fmt.Errorf("version %d is not %d", f.Version, recordVersion)
	}
	mac, err := parseMAC(f.MAC)
	if err != nil {
		return Record{}, fmt.Errorf("mac: %w", err)
	}
	hostMAC, err := parseMAC(f.HostMAC)
	if err != nil {
		return Record{}, fmt.Errorf("hostMAC: %w", err)
	}
	r := Record{Network: f.Network, Workload: f.Workload.read(), Endpoint: model.Endpoint{
		ID: f.ID, Slot: f.Slot, Pod: model.PodKey{Namespace: f.Namespace, Name: f.Pod}, PodUID: f.PodUID,
		ContainerID: f.ContainerID, IfName: f.IfName, NetNS: f.NetNS,
		HostIfName: f.HostIfName, HostIfIndex: f.HostIfIndex, MAC: mac, HostMAC: hostMAC,
		IPv4: f.IPv4, IPv6: f.IPv6, MTU: f.MTU, State: model.EndpointState(f.State),
	}}
	return r, validate(r)
}

func validate(r Record) error {
	if err := r.Key().Validate(); err != nil {
		return err
	}
	switch {
	case r.ID == 0:
		return errors.New("id is 0")
	case r.Slot == 0 || r.Slot > MaxSlot:
		return fmt.Errorf("slot %d is not between 1 and %d", r.Slot, MaxSlot)
	case r.State != model.EndpointPrepared && r.State != model.EndpointReady:
		return fmt.Errorf("state %q is unknown", r.State)
	case !attachment.IsHostDevice(r.HostIfName):
		return fmt.Errorf("hostIfname %q is not one of ours", r.HostIfName)
	case !r.IPv4.IsValid() && !r.IPv6.IsValid():
		return errors.New("there is no address")
	case r.IPv4.IsValid() && !r.IPv4.Is4():
		return fmt.Errorf("ipv4 %s is not IPv4", r.IPv4)
	case r.IPv6.IsValid() && (!r.IPv6.Is6() || r.IPv6.Is4In6()):
		return fmt.Errorf("ipv6 %s is not IPv6", r.IPv6)
	}
	return nil
}

func parseMAC(s string) (model.MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return model.MAC{}, err
	}
	if len(hw) != len(model.MAC{}) {
		return model.MAC{}, fmt.Errorf("%q is not an Ethernet address", s)
	}
	return model.MAC(hw), nil
}
