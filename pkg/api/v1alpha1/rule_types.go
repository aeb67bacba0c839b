// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IngressPeers says who the other side of incoming traffic is. One list at most
// may have items. A list that is there and empty matches nobody; without any
// list everybody matches, provided that toPorts or icmps is there: a rule
// without peers and ports matches nothing.
//
// +kubebuilder:validation:XValidation:rule="!has(self.fromRequires)",message="fromRequires: not supported yet; put its requirements into every fromEndpoints selector"
// +kubebuilder:validation:XValidation:rule="!has(self.fromNodes)",message="fromNodes: not supported yet; use fromEntities with host and remote-node"
// +kubebuilder:validation:XValidation:rule="!has(self.fromGroups)",message="fromGroups: not supported yet; list the addresses in fromCIDRSet"
// +kubebuilder:validation:XValidation:rule="(has(self.fromEndpoints) && size(self.fromEndpoints) > 0 ? 1 : 0) + (has(self.fromEntities) && size(self.fromEntities) > 0 ? 1 : 0) + (has(self.fromCIDR) && size(self.fromCIDR) > 0 ? 1 : 0) + (has(self.fromCIDRSet) && size(self.fromCIDRSet) > 0 ? 1 : 0) <= 1",message="fromEndpoints, fromEntities, fromCIDR, fromCIDRSet: one rule has one of them; write a rule for each"
type IngressPeers struct {
	// FromEndpoints selects pods by labels; {} selects all (of the policy's
	// namespace, if it has one). A selector that names no namespace means the
	// policy's own.
	// +optional
	FromEndpoints []metav1.LabelSelector `json:"fromEndpoints,omitzero"`
	// FromRequires narrows FromEndpoints. Not supported yet.
	// +optional
	FromRequires []metav1.LabelSelector `json:"fromRequires,omitzero"`
	// FromEntities names groups of peers.
	// +optional
	FromEntities []Entity `json:"fromEntities,omitzero"`
	// FromCIDR lists prefixes or addresses outside the cluster.
	// +optional
	FromCIDR []CIDR `json:"fromCIDR,omitzero"`
	// FromCIDRSet lists prefixes outside the cluster, with exceptions.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	FromCIDRSet []CIDRRule `json:"fromCIDRSet,omitzero"`
	// FromNodes selects nodes by labels. Not supported yet.
	// +optional
	FromNodes []metav1.LabelSelector `json:"fromNodes,omitzero"`
	// FromGroups selects groups of a cloud provider. Not supported yet.
	// +optional
	FromGroups []Groups `json:"fromGroups,omitzero"`
}

// EgressPeers says who the other side of outgoing traffic is, as IngressPeers
// does for incoming traffic.
//
// +kubebuilder:validation:XValidation:rule="!has(self.toRequires)",message="toRequires: not supported yet; put its requirements into every toEndpoints selector"
// +kubebuilder:validation:XValidation:rule="!has(self.toNodes)",message="toNodes: not supported yet; use toEntities with host and remote-node"
// +kubebuilder:validation:XValidation:rule="!has(self.toGroups)",message="toGroups: not supported yet; list the addresses in toCIDRSet"
// +kubebuilder:validation:XValidation:rule="!has(self.toServices)",message="toServices: not supported yet; use toEndpoints with the labels of the service's pods"
// +kubebuilder:validation:XValidation:rule="(has(self.toEndpoints) && size(self.toEndpoints) > 0 ? 1 : 0) + (has(self.toEntities) && size(self.toEntities) > 0 ? 1 : 0) + (has(self.toCIDR) && size(self.toCIDR) > 0 ? 1 : 0) + (has(self.toCIDRSet) && size(self.toCIDRSet) > 0 ? 1 : 0) <= 1",message="toEndpoints, toEntities, toCIDR, toCIDRSet: one rule has one of them; write a rule for each"
type EgressPeers struct {
	// ToEndpoints selects pods by labels; {} selects all (of the policy's
	// namespace, if it has one). A selector that names no namespace means the
	// policy's own.
	// +optional
	ToEndpoints []metav1.LabelSelector `json:"toEndpoints,omitzero"`
	// ToRequires narrows ToEndpoints. Not supported yet.
	// +optional
	ToRequires []metav1.LabelSelector `json:"toRequires,omitzero"`
	// ToEntities names groups of peers.
	// +optional
	ToEntities []Entity `json:"toEntities,omitzero"`
	// ToCIDR lists prefixes or addresses outside the cluster.
	// +optional
	ToCIDR []CIDR `json:"toCIDR,omitzero"`
	// ToCIDRSet lists prefixes outside the cluster, with exceptions.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	ToCIDRSet []CIDRRule `json:"toCIDRSet,omitzero"`
	// ToNodes selects nodes by labels. Not supported yet.
	// +optional
	ToNodes []metav1.LabelSelector `json:"toNodes,omitzero"`
	// ToGroups selects groups of a cloud provider. Not supported yet.
	// +optional
	ToGroups []Groups `json:"toGroups,omitzero"`
	// ToServices selects the backends of services. Not supported yet.
	// +optional
	ToServices []ServiceRule `json:"toServices,omitzero"`
}

// IngressRule allows traffic from its peers to its ports.
//
// +kubebuilder:validation:XValidation:rule="!has(self.authentication)",message="authentication: not supported yet; remove it"
type IngressRule struct {
	IngressPeers `json:",inline"`

	// ToPorts lists ports; without it every port and protocol is meant.
	// +optional
	// +kubebuilder:validation:MaxItems=40
	ToPorts []PortRule `json:"toPorts,omitempty"`
	// ICMPs lists types of ICMP messages; not together with ToPorts.
	// +optional
	ICMPs []ICMPRule `json:"icmps,omitempty"`
	// Authentication asks for mutual authentication. Not supported yet.
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// IngressDenyRule denies traffic from its peers to its ports.
type IngressDenyRule struct {
	IngressPeers `json:",inline"`

	// ToPorts lists ports; without it every port and protocol is meant.
	// +optional
	ToPorts []PortDenyRule `json:"toPorts,omitempty"`
	// ICMPs lists types of ICMP messages; not together with ToPorts.
	// +optional
	ICMPs []ICMPRule `json:"icmps,omitempty"`
}

// EgressRule allows traffic to its peers' ports.
//
// +kubebuilder:validation:XValidation:rule="!has(self.toFQDNs)",message="toFQDNs: not supported yet; list the addresses in toCIDR"
// +kubebuilder:validation:XValidation:rule="!has(self.authentication)",message="authentication: not supported yet; remove it"
type EgressRule struct {
	EgressPeers `json:",inline"`

	// ToPorts lists ports; without it every port and protocol is meant.
	// +optional
	// +kubebuilder:validation:MaxItems=40
	ToPorts []PortRule `json:"toPorts,omitempty"`
	// ICMPs lists types of ICMP messages; not together with ToPorts.
	// +optional
	ICMPs []ICMPRule `json:"icmps,omitempty"`
	// ToFQDNs lists DNS names. Not supported yet.
	// +optional
	ToFQDNs []FQDNSelector `json:"toFQDNs,omitzero"`
	// Authentication asks for mutual authentication. Not supported yet.
	// +optional
	Authentication *Authentication `json:"authentication,omitempty"`
}

// EgressDenyRule denies traffic to its peers' ports.
type EgressDenyRule struct {
	EgressPeers `json:",inline"`

	// ToPorts lists ports; without it every port and protocol is meant.
	// +optional
	ToPorts []PortDenyRule `json:"toPorts,omitempty"`
	// ICMPs lists types of ICMP messages; not together with ToPorts.
	// +optional
	ICMPs []ICMPRule `json:"icmps,omitempty"`
}

// Entity names a group of peers: world is everything outside the cluster,
// cluster everything inside, all is both.
//
// +kubebuilder:validation:Enum=all;world;world-ipv4;world-ipv6;cluster;host;init;ingress;unmanaged;remote-node;health;none;kube-apiserver
type Entity string

// CIDR is a prefix, or an address that stands for itself alone.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:Pattern=`^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}(/(3[0-2]|[12]?[0-9]))?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)$`
type CIDR string

// CIDRRule is a prefix with exceptions.
//
// +kubebuilder:validation:XValidation:rule="!has(self.cidrGroupRef) && !has(self.cidrGroupSelector)",message="cidrGroupRef, cidrGroupSelector: not supported yet; list the group's prefixes as cidr"
type CIDRRule struct {
	// CIDR is a prefix, with its length.
	// +optional
	// +kubebuilder:validation:Pattern=`/[0-9]+$`
	CIDR CIDR `json:"cidr,omitempty"`
	// CIDRGroupRef names a group of prefixes. Not supported yet.
	// +optional
	CIDRGroupRef string `json:"cidrGroupRef,omitempty"`
	// CIDRGroupSelector selects groups of prefixes by labels. Not supported yet.
	// +optional
	CIDRGroupSelector *metav1.LabelSelector `json:"cidrGroupSelector,omitempty"`
	// Except lists prefixes inside CIDR that are not meant.
	// +optional
	// +kubebuilder:validation:items:Pattern=`/[0-9]+$`
	Except []CIDR `json:"except,omitempty"`
}
