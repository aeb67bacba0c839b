// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// Uplink is a device by which packets leave the cluster, and what the sources of
// pods' packets become there; an address that is not valid: they stay.
type Uplink struct {
	Name  string
	Index uint32
	IPv4  netip.Addr
	IPv6  netip.Addr
	// OnlyIn tells that pods do not leave by it under the node's address: it is there
	// for what comes to ports of the node's.
	OnlyIn bool
}
