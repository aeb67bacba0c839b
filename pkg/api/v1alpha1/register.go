// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version of the API, and the kinds of this file's neighbours.
const (
	Group   = "weftmesh.io"
	Version = "v1alpha1"

	KindNetworkPolicy        = "WeftNetworkPolicy"
	KindClusterNetworkPolicy = "WeftClusterNetworkPolicy"
	KindIdentity             = "WeftIdentity"
	KindEndpointSlice        = "WeftEndpointSlice"
	KindNode                 = "WeftNode"
)

// GroupVersion names the API.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme makes the types known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(),
		&WeftNetworkPolicy{}, &WeftNetworkPolicyList{},
		&WeftClusterNetworkPolicy{}, &WeftClusterNetworkPolicyList{},
		&WeftIdentity{}, &WeftIdentityList{},
		&WeftEndpointSlice{}, &WeftEndpointSliceList{},
		&WeftNode{}, &WeftNodeList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
