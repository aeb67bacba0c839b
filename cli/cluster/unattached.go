// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// FindUnattached notes the pods that run on ready nodes and that Weft did not
// attach: they began under another CNI plugin, or under an installation that was
// removed. It reads all pods of the cluster; who may not gets no answer.
func (c *Cluster) FindUnattached(ctx context.Context, s *State) error {
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
	if apierrors.IsForbidden(err) {
		return nil
	} else if err != nil {
		return c.failed("listing pods", err)
	}
	attached, err := c.attached(ctx) // after the pods: one that runs by then is in a slice
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil
	} else if err != nil {
		return c.failed("listing WeftEndpointSlices", err)
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		for j := range pods.Items {
			p := &pods.Items[j]
			if name := p.Namespace + "/" + p.Name; n.Ready && p.Spec.NodeName == n.Name && needsNetwork(p) && !attached[name] {
				n.Unattached = append(n.Unattached, name)
			}
		}
		slices.Sort(n.Unattached)
	}
	return nil
}

func needsNetwork(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil && !p.Spec.HostNetwork
}

// attached are the pods, namespace/name, that agents have told of.
func (c *Cluster) attached(ctx context.Context) (map[string]bool, error) {
	list, err := c.Dynamic.Resource(resource("weftendpointslices")).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for i := range list.Items {
		var slice v1alpha1.WeftEndpointSlice
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &slice); err != nil {
			return nil, fmt.Errorf("WeftEndpointSlice %s: %w", list.Items[i].GetName(), err)
		}
		for _, e := range slice.Endpoints {
			all[e.Namespace+"/"+e.Name] = true
		}
	}
	return all, nil
}
