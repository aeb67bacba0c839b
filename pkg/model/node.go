// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// ClusterNode is a node of the cluster.
type ClusterNode struct {
	Name string
	// Addrs are the node's own addresses; the first of each family is the one that
	// routes lead to.
	Addrs    []netip.Addr
	PodCIDRs []netip.Prefix // at most one of each family, IPv4 first
	Source   string
}

// NodeSlice is a part of the endpoints of one node, as its agent tells them.
type NodeSlice struct {
	Name      string
	Node      string
	Endpoints []NodeEndpoint // sorted by pod
	Source    string
}

// NodeEndpoint is a pod that is attached to the network of its node.
type NodeEndpoint struct {
	Pod      PodKey
	Identity IdentityID
	IPv4     netip.Addr // zero: none
	IPv6     netip.Addr
	Ports    []NamedPort // sorted by name, protocol, port
	Workload Workload
}
