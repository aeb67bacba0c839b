// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// EndpointRow is what the kernel is to know of a local endpoint (struct
// weft_ep).
type EndpointRow struct {
	Slot           uint16
	ID             uint32
	IfIndex        uint32
	IfName         string // host-side device
	Identity       IdentityID
	Set            SetHash // zero: no entries
	EnforceEgress  bool
	EnforceIngress bool
	MTU            uint16
	MAC            MAC
	HostMAC        MAC
	IPv4           netip.Addr
	IPv6           netip.Addr
}

// IPRow is what the kernel is to know of an address or prefix (struct weft_ip).
type IPRow struct {
	Prefix   netip.Prefix
	Identity IdentityID
	Slot     uint16 // of the local endpoint that has the address, or 0
	Node     uint16 // number of the node to which packets for it go through the tunnel; 0: not through it
}

// FrontendKey is where a service is called.
type FrontendKey struct {
	Addr     netip.Addr
	Port     uint16
	Protocol uint8
}

// String is address, port and the protocol's number.
func (k FrontendKey) String() string {
	return fmt.Sprintf("%s protocol %d", netip.AddrPortFrom(k.Addr, k.Port), k.Protocol)
}

// Compare orders by address, port and protocol.
func (k FrontendKey) Compare(o FrontendKey) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Protocol, o.Protocol))
}

// FrontendRow is what the kernel is to know of a front end (struct weft_svc).
type FrontendRow struct {
	FrontendKey
	Service  uint32 // number of the service's port, whose slots are chosen from
	Slots    uint32 // 0: nobody serves, callers are refused
	Affinity time.Duration
	Maglev   bool // the slots are a Maglev table
	HostPort bool // a port of the node's that leads to a pod: reached from outside, too
	HostOnly bool // the same at a loopback address: for the host's own processes
}

// SlotTable is the slots of one port of a service: each names a backend.
type SlotTable struct {
	Service  uint32
	Backends []uint32
}

// BackendRow is what the kernel is to know of a backend (struct
// weft_backend_row).
type BackendRow struct {
	ID       uint32
	Addr     netip.Addr
	Port     uint16
	Protocol uint8
	State    BackendState
}

// BackendState is what a backend gets, from most to least.
type BackendState uint8

// States of backends in the kernel.
const (
	BackendActive   BackendState = iota
	BackendDraining              // keeps what it has, gets nothing new
	BackendUnready               // keeps connections only: messages go elsewhere
)

// ServiceRows is all that the kernel knows of services.
type ServiceRows struct {
	Frontends []FrontendRow
	Slots     map[uint32][]uint32 // backends by slot, by service
	Backends  []BackendRow
}

// ServiceChanges is how the rows of services are to differ from what they were.
type ServiceChanges struct {
	Frontends     []FrontendRow // new or changed
	Slots         []SlotTable
	Backends      []BackendRow
	GoneFrontends []FrontendKey
	GoneSlots     []uint32
	GoneBackends  []uint32
}

// Hit is a choice of a backend by a service.
type Hit struct{ Service, Backend uint32 }

// Revision numbers changes of intent on this node, from 1 upwards. It is not
// kept over a restart of the agent.
type Revision uint64
