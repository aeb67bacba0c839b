// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WeftIdentity is a set of identity-relevant labels and the number that stands
// for it in the whole cluster: the number is the object's name. The operator
// makes one when the first pod with the labels is created, and removes it some
// time after the last one went.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=weftidentities,singular=weftidentity,scope=Cluster,shortName=wid,categories=weft
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.metadata.labels.weftmesh\.io/namespace`
// +kubebuilder:printcolumn:name="Labels",type=string,priority=1,JSONPath=`.securityLabels`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[1-9][0-9]{2,7}$') && int(self.metadata.name) >= 256 && int(self.metadata.name) < 16777216",message="metadata.name: is the identity's number, from 256 to 16777215"
type WeftIdentity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// SecurityLabels are the labels, each as source:key=value, in order. They
	// never change.
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="securityLabels: never change; make another WeftIdentity"
	SecurityLabels []string `json:"securityLabels"`
}

// WeftIdentityList is a list of WeftIdentity.
//
// +kubebuilder:object:root=true
type WeftIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []WeftIdentity `json:"items"`
}

// LabelIdentityNamespace is the label of a WeftIdentity with the namespace of its
// pods, for people who list them.
const LabelIdentityNamespace = "weftmesh.io/namespace"
