// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WeftEndpointSlice has some of the endpoints of one node: which identity has
// which address. The node's agent writes it; all other agents read it. Slices are
// small, so that one endpoint's change costs each reader little.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=weftendpointslices,singular=weftendpointslice,scope=Cluster,shortName=wes,categories=weft
// +kubebuilder:storageversion
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.nodeName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type WeftEndpointSlice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	// NodeName is the node that the endpoints run on.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="nodeName: never changes"
	NodeName string `json:"nodeName"`
	// Endpoints are the endpoints.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Endpoints []SliceEndpoint `json:"endpoints,omitempty"`
}

// MaxSliceEndpoints is how many endpoints a WeftEndpointSlice has at most: with
// all fields in use it stays below 10 KB.
const MaxSliceEndpoints = 32

// SliceEndpoint is a pod that is attached to the network.
type SliceEndpoint struct {
	// Namespace of the pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// Name of the pod.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Identity is the number of the pod's WeftIdentity, or 8 (unmanaged) for a pod that
	// runs without being attached to Weft's network.
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=16777215
	// +kubebuilder:validation:XValidation:rule="self == 8 || self >= 256",message="must be the number of a WeftIdentity, or 8"
	Identity int64 `json:"identity"`
	// Addresses of the pod, at most one of each family.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=45
	// +listType=atomic
	Addresses []string `json:"addresses"`
	// Ports are the pod's named ports, for rules that name them.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	Ports []SlicePort `json:"ports,omitempty"`
	// Workload is what the pod belongs to, for those who read flows.
	// +optional
	Workload *Workload `json:"workload,omitempty"`
}

// SlicePort is a container port that has a name.
type SlicePort struct {
	// +kubebuilder:validation:MaxLength=15
	Name string `json:"name"`
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	Protocol string `json:"protocol"`
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
}

// Workload names the object that a pod belongs to, such as its Deployment.
type Workload struct {
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// WeftEndpointSliceList is a list of WeftEndpointSlice.
//
// +kubebuilder:object:root=true
type WeftEndpointSliceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []WeftEndpointSlice `json:"items"`
}
