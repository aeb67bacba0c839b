// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

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
}

// Revision numbers changes of intent on this node, from 1 upwards. It is not
// kept over a restart of the agent.
type Revision uint64
