// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// PodKey names a workload.
type PodKey struct {
	Namespace string
	Name      string
}

// String is namespace/name.
func (k PodKey) String() string { return k.Namespace + "/" + k.Name }

// NamedPort is a container port that has a name.
type NamedPort struct {
	Name     string
	Protocol uint8 // IP protocol number
	Port     uint16
}

// HostPort is a port of the node's that leads to a pod on that node.
type HostPort struct {
	// Addr is the address of the node that has it. Not set: each of them; 0.0.0.0 or
	// ::: each of that family.
	Addr     netip.Addr
	Protocol uint8
	Port     uint16 // of the node
	PodPort  uint16
}

// Pod is what the mesh needs to know of a workload.
type Pod struct {
	PodKey
	UID            string
	Labels         map[string]string
	ServiceAccount string
	Ports          []NamedPort // sorted by name, protocol
	HostPorts      []HostPort  // of a pod with a network of its own; sorted
	HostNetwork    bool
	// Addrs are those that the API server knows, of a pod that runs and was not
	// attached here when they were told.
	Addrs    []netip.Addr
	NodeName string
	Workload Workload // what it belongs to
	Source   string   // file or API object it came from
	Orphan   bool     // gone from its source, but still attached
}

// Workload is the object that a pod belongs to, such as its Deployment; the zero
// value: none.
type Workload struct {
	Kind string
	Name string
}

// String is kind/name.
func (w Workload) String() string {
	if w == (Workload{}) {
		return ""
	}
	return w.Kind + "/" + w.Name
}

// Namespace carries the labels that namespace selectors match.
type Namespace struct {
	Name   string
	Labels map[string]string
	Source string
}

// EndpointState is where an attachment stands in its life.
type EndpointState string

// States of an endpoint.
const (
	EndpointPrepared EndpointState = "creating" // addresses reserved, no device yet
	EndpointReady    EndpointState = "ready"    // device there; the kernel is to be given its row
)

// Endpoint is one attachment of a pod to the network, made by a CNI ADD. It is
// persisted, and is the record of the addresses in use.
type Endpoint struct {
	ID          uint32 // number in the API and in flows; not reused while in use
	Slot        uint16 // place in the kernel's array of endpoints, from 1
	Pod         PodKey
	PodUID      string
	ContainerID string
	IfName      string // in the pod
	NetNS       string // path, as the runtime gave it
	HostIfName  string
	HostIfIndex uint32
	MAC         MAC
	HostMAC     MAC
	IPv4        netip.Addr // zero: none
	IPv6        netip.Addr
	MTU         uint16
	State       EndpointState
}

// MAC is an Ethernet address.
type MAC [6]byte

// Protocol numbers (IANA).
const (
	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
	ProtoSCTP   uint8 = 132
)
