// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WeftNetworkPolicy says what the pods that it selects in its namespace may
// send and receive.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=weftnetworkpolicies,singular=weftnetworkpolicy,shortName=wnp;weftnp,categories=weft
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="has(self.spec) || has(self.specs)",message="one of spec and specs is needed"
type WeftNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Spec is one policy.
	// +optional
	Spec *PolicySpec `json:"spec,omitempty"`
	// Specs are several policies in one object, each with its own selector.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	Specs []PolicySpec `json:"specs,omitempty"`
	// +optional
	Status PolicyStatus `json:"status,omitzero"`
}

// WeftNetworkPolicyList is a list of WeftNetworkPolicy.
//
// +kubebuilder:object:root=true
type WeftNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []WeftNetworkPolicy `json:"items"`
}

// WeftClusterNetworkPolicy says what the pods that it selects in any namespace
// may send and receive.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=weftclusternetworkpolicies,singular=weftclusternetworkpolicy,scope=Cluster,shortName=wcnp,categories=weft
// +kubebuilder:subresource:status
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="has(self.spec) || has(self.specs)",message="one of spec and specs is needed"
type WeftClusterNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// Spec is one policy.
	// +optional
	Spec *PolicySpec `json:"spec,omitempty"`
	// Specs are several policies in one object, each with its own selector.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	Specs []PolicySpec `json:"specs,omitempty"`
	// +optional
	Status PolicyStatus `json:"status,omitzero"`
}

// WeftClusterNetworkPolicyList is a list of WeftClusterNetworkPolicy.
//
// +kubebuilder:object:root=true
type WeftClusterNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []WeftClusterNetworkPolicy `json:"items"`
}

// ConditionValid tells whether a policy is applied; its message names what is
// wrong.
const ConditionValid = "Valid"

// PolicyStatus is what the mesh reports about a policy.
type PolicyStatus struct {
	// Conditions are Valid and what later versions add.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PolicySpec is one policy. A direction that has rules denies by default what
// no rule allows, unless enableDefaultDeny says otherwise; a deny rule wins
// over every allow rule.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nodeSelector)",message="nodeSelector: not supported yet; use endpointSelector"
// +kubebuilder:validation:XValidation:rule="!has(self.log)",message="log: not supported yet; remove it"
// +kubebuilder:validation:XValidation:rule="has(self.endpointSelector) || has(self.nodeSelector)",message="endpointSelector: is missing; {} selects all pods"
// +kubebuilder:validation:XValidation:rule="has(self.ingress) || has(self.ingressDeny) || has(self.egress) || has(self.egressDeny)",message="one of ingress, ingressDeny, egress and egressDeny is needed"
type PolicySpec struct {
	// EndpointSelector selects the pods that the policy is about; {} selects
	// all (of its namespace, if it has one).
	// +optional
	EndpointSelector *metav1.LabelSelector `json:"endpointSelector,omitempty"`
	// NodeSelector selects nodes. Not supported yet.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// Ingress allows traffic to the pods.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	Ingress []IngressRule `json:"ingress,omitzero"`
	// IngressDeny denies traffic to the pods, whatever is allowed elsewhere.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	IngressDeny []IngressDenyRule `json:"ingressDeny,omitzero"`
	// Egress allows traffic from the pods.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	Egress []EgressRule `json:"egress,omitzero"`
	// EgressDeny denies traffic from the pods, whatever is allowed elsewhere.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	EgressDeny []EgressDenyRule `json:"egressDeny,omitzero"`

	// EnableDefaultDeny says, by direction, whether what no rule allows is
	// denied. Without it a direction that has rules is.
	// +optional
	EnableDefaultDeny DefaultDeny `json:"enableDefaultDeny,omitzero"`

	// Labels are free; they do nothing.
	// +optional
	Labels []PolicyLabel `json:"labels,omitempty"`
	// Description is free text; it does nothing.
	// +optional
	Description string `json:"description,omitempty"`
	// Log configures what flows say about this policy. Not supported yet.
	// +optional
	Log *LogConfig `json:"log,omitempty"`
}

// DefaultDeny is EnableDefaultDeny's value; nil takes the default.
type DefaultDeny struct {
	// +optional
	Ingress *bool `json:"ingress,omitempty"`
	// +optional
	Egress *bool `json:"egress,omitempty"`
}

// PolicyLabel is a label of a policy itself.
type PolicyLabel struct {
	Key string `json:"key"`
	// +optional
	Value string `json:"value,omitempty"`
	// Source says where the label comes from.
	// +optional
	Source string `json:"source,omitempty"`
}

// LogConfig configures what flows say about a policy.
type LogConfig struct {
	// Value is added to flows that the policy decides.
	// +optional
	Value string `json:"value,omitempty"`
}
