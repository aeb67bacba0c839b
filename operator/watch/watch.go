// SPDX-License-Identifier: Apache-2.0

// Package watch says which objects the operator keeps in memory, and how little
// of each.
package watch

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// How agents' pods are found.
const (
	LabelName = "app.kubernetes.io/name"
	AgentName = "weft-agent"
)

// Objects is for the cache. Pods that have ended are not watched: they have no
// network any more. Namespace is that of the agents.
func Objects(namespace string) map[client.Object]cache.ByObject {
	ended := fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Field: ended, Transform: func(o any) (any, error) {
			if p, ok := o.(*corev1.Pod); ok {
				return Pod(p, namespace), nil
			}
			return o, nil
		}},
		&corev1.Namespace{}: {Transform: func(o any) (any, error) {
			if n, ok := o.(*corev1.Namespace); ok {
				return &corev1.Namespace{ObjectMeta: meta(&n.ObjectMeta, n.Labels)}, nil
			}
			return o, nil
		}},
		&corev1.Node{}: {Transform: func(o any) (any, error) {
			if n, ok := o.(*corev1.Node); ok {
				return Node(n), nil
			}
			return o, nil
		}},
		&v1alpha1.WeftIdentity{}:             {Transform: cache.TransformStripManagedFields()},
		&v1alpha1.WeftEndpointSlice{}:        {Transform: slice},
		&v1alpha1.WeftNode{}:                 {Transform: cache.TransformStripManagedFields()},
		&v1alpha1.WeftNetworkPolicy{}:        {Transform: cache.TransformStripManagedFields()},
		&v1alpha1.WeftClusterNetworkPolicy{}: {Transform: cache.TransformStripManagedFields()},
	}
}

func meta(m *metav1.ObjectMeta, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp, Labels: labels}
}

// Pod is what identities are made of; of pods on the host's network, which have
// none, only agents keep their labels and whether they are ready.
func Pod(p *corev1.Pod, namespace string) *corev1.Pod {
	out := &corev1.Pod{
		Spec:   corev1.PodSpec{ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork, NodeName: p.Spec.NodeName},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}
	labels := p.Labels
	if p.Spec.HostNetwork {
		labels = nil
		out.Spec.ServiceAccountName = ""
		if p.Namespace == namespace && p.Labels[LabelName] == AgentName {
			labels = map[string]string{LabelName: AgentName}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady {
					out.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
				}
			}
		}
	}
	out.ObjectMeta = meta(&p.ObjectMeta, labels)
	return out
}

// Node is what WeftNodes are made of, and what the operator changes on a node.
func Node(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{
		ObjectMeta: meta(&n.ObjectMeta, nil),
		Spec:       corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs, Taints: n.Spec.Taints},
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out.Status.Addresses = append(out.Status.Addresses, a)
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			out.Status.Conditions = append(out.Status.Conditions, c)
		}
	}
	return out
}

// slice keeps who has which identity and which address.
func slice(o any) (any, error) {
	s, ok := o.(*v1alpha1.WeftEndpointSlice)
	if !ok {
		return o, nil
	}
	out := &v1alpha1.WeftEndpointSlice{ObjectMeta: meta(&s.ObjectMeta, nil), NodeName: s.NodeName}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, v1alpha1.SliceEndpoint{Identity: e.Identity, Addresses: e.Addresses})
	}
	return out, nil
}
