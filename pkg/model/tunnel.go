// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// MaxNodeNumber is the highest number that a node at the other end of the tunnel has.
const MaxNodeNumber uint16 = 8191

// NodeRow is what the kernel is to know of a node at the other end of the tunnel
// (struct weft_node_row).
type NodeRow struct {
	Number uint16       // 1 to MaxNodeNumber; 0 is this node
	Outer  netip.Addr   // its end of the tunnel; of this node: not set
	IPv4   netip.Prefix // its pods' range; zero: none
	IPv6   netip.Prefix
}

// TunnelDevice is the device of the tunnel between nodes; zero: there is none.
type TunnelDevice struct {
	Name  string
	Index uint32
	MTU   uint16 // of inner IP packets
}
