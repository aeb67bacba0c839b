// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// ServiceKey names a service.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String is namespace/name.
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// ServicePortKey names a port of a service by its number on the front ends.
type ServicePortKey struct {
	Service ServiceKey
	Port    uint16
}

// ServiceType tells where a service can be reached; the values are those of
// the Kubernetes API. Each but ExternalName includes what the ones before it
// offer.
type ServiceType string

// Types of services.
const (
	ServiceClusterIP    ServiceType = "ClusterIP"
	ServiceNodePort     ServiceType = "NodePort"
	ServiceLoadBalancer ServiceType = "LoadBalancer"
	ServiceExternalName ServiceType = "ExternalName" // a DNS alias; nothing to balance
)

// Service is a set of front ends. Its backends are in EndpointSlices.
type Service struct {
	ServiceKey
	Type            ServiceType
	ClusterIPs      []netip.Addr // none: headless, or not yet given
	ExternalIPs     []netip.Addr
	LoadBalancerIPs []netip.Addr
	Ports           []ServicePort // in the order of the object
	// Affinity is how long a client address stays with its backend; 0: not.
	Affinity time.Duration
	// InternalLocal and ExternalLocal restrict traffic from inside and outside
	// of the cluster to backends on the node that it meets.
	InternalLocal   bool
	ExternalLocal   bool
	PublishNotReady bool // backends count as ready whatever their state
	Source          string
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name       string
	Protocol   uint8  // IP protocol number
	Port       uint16 // on the front ends
	TargetPort uint16 // on the backends; 0 where TargetName is set
	TargetName string // a named port of the backends
	NodePort   uint16 // 0: none
}

// PortPod is a pod of this node that is to have ports of the node's.
type PortPod struct {
	Pod        PodKey
	Attachment uint32 // number of its endpoint, which grows with time
	IPv4, IPv6 netip.Addr
	Ports      []HostPort
}

// EndpointSliceKey names an endpoint slice.
type EndpointSliceKey struct {
	Namespace string
	Name      string
}

// String is namespace/name.
func (k EndpointSliceKey) String() string { return k.Namespace + "/" + k.Name }

// EndpointSlice is a part of a service's backends: each of Backends offers
// each of Ports.
type EndpointSlice struct {
	EndpointSliceKey
	Service  ServiceKey // zero name: of no service
	Ports    []EndpointPort
	Backends []Backend // in the order of the object
	Source   string
}

// EndpointPort is the port behind the service's port of the same name.
type EndpointPort struct {
	Name     string
	Protocol uint8
	Port     uint16
}

// Backend is one address that serves.
type Backend struct {
	Addr netip.Addr
	// Ready takes new connections. Serving answers, though perhaps it is going
	// away; Terminating is going away.
	Ready       bool
	Serving     bool
	Terminating bool
	NodeName    string
	Zone        string
	ForZones    []string // zones whose clients should prefer it; none: no hint
	Pod         PodKey   // zero: not a pod
}
