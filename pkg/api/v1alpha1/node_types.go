// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WeftNode is what the mesh knows of a node; it has the node's name. The operator
// writes the spec, the node's agent the status.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=weftnodes,singular=weftnode,scope=Cluster,shortName=wn,categories=weft
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="PodCIDRs",type=string,JSONPath=`.spec.podCIDRs`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.agentVersion`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WeftNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// +optional
	Spec NodeSpec `json:"spec,omitzero"`
	// +optional
	Status NodeStatus `json:"status,omitzero"`
}

// NodeSpec is where a node and its pods are found.
type NodeSpec struct {
	// Addresses of the node, by which other nodes reach it; the first of each
	// family is the one that routes lead to.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=45
	Addresses []string `json:"addresses,omitempty"`
	// PodCIDRs are the ranges of the addresses of the node's pods, at most one of
	// each family.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=49
	PodCIDRs []string `json:"podCIDRs,omitempty"`
}

// NodeStatus is what the node's agent says.
type NodeStatus struct {
	// AgentVersion is the version of the agent that runs.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// Conditions are Ready and what later versions add.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ProxyFaults are the policies that the node's proxy does not have as they are
	// written: each once, the first of them if there are more.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	ProxyFaults []ProxyFault `json:"proxyFaults,omitempty"`
}

// MaxProxyFaults and MaxFaultMessage are how many faults a status has, and how long the
// message of one is.
const (
	MaxProxyFaults  = 32
	MaxFaultMessage = 512
)

// ProxyFault is what a node's proxy has against a policy.
type ProxyFault struct {
	// Kind of the policy.
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Namespace of the policy, if its kind has one.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// Name of the policy.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Message is what the proxy says.
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message"`
}

// ConditionReady of a WeftNode: its agent has proven that the datapath works.
const ConditionReady = "Ready"

// TaintAgentNotReady keeps pods away from a node until its WeftNode is Ready.
const TaintAgentNotReady = "weftmesh.io/agent-not-ready"

// WeftNodeList is a list of WeftNode.
//
// +kubebuilder:object:root=true
type WeftNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []WeftNode `json:"items"`
}
