// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the Kubernetes API of Weft, group weftmesh.io: the types,
// their schema (by markers) and their conversion into the domain model.
//
// WeftNetworkPolicy and WeftClusterNetworkPolicy have the shape of
// CiliumNetworkPolicy (cilium.io/v2), so that one becomes the other by changing
// apiVersion and kind. Every field of it is declared. What is not built yet is
// refused by name: in the cluster by rules of the schema, and in any source by
// the conversion; a policy never allows more than it says.
//
// +kubebuilder:object:generate=true
// +groupName=weftmesh.io
package v1alpha1

//go:generate ../../../build/tools/controller-gen object:headerFile=boilerplate.txt crd:generateEmbeddedObjectMeta=false paths=. output:crd:artifacts:config=../../../daemonset/chart/crd
