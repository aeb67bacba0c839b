// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// chooseNodes takes the nodes that were named, or the first two that have an agent
// and take pods; those of workers come first.
func (r *runner) chooseNodes(ctx context.Context) ([]node, error) {
	list, err := r.Cluster.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	agents, err := r.Cluster.AgentPods(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(len(a.Spec.Taints), len(b.Spec.Taints)), cmp.Compare(a.Name, b.Name))
	})
	var out []node
	for i := range list.Items {
		n := &list.Items[i]
		agent := agents[n.Name]
		if agent == nil && needsAgent(n) {
			r.bare = append(r.bare, "node "+n.Name+": it has no pod of the agent")
		}
		if agent == nil || len(r.Nodes) > 0 && !slices.Contains(r.Nodes, n.Name) || len(r.Nodes) == 0 && !takesPods(n) {
			continue
		}
		out = append(out, nodeOf(n, agent.Name))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no node has an agent and takes pods: see weft status, and kubectl describe nodes for taints")
	}
	return out[:min(2, len(out))], nil
}

// takesPods leaves out nodes that the pods of the test would not be put on.
func takesPods(n *corev1.Node) bool {
	return !n.Spec.Unschedulable && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule && t.Key != "node-role.kubernetes.io/control-plane"
	})
}

func nodeOf(n *corev1.Node, agentPod string) node {
	out := node{name: n.Name, hostname: cmp.Or(n.Labels[corev1.LabelHostname], n.Name), agentPod: agentPod,
		kubelet: cmp.Or(n.Status.DaemonEndpoints.KubeletEndpoint.Port, 10250)}
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.addresses = append(out.addresses, addr)
		}
	}
	return out
}

// made is a policy that was made.
type made struct {
	resource schema.GroupVersionResource
	name     string
}

// make makes a policy.
func (r *runner) make(ctx context.Context, t *testRun, o metav1.Object) error {
	m := made{name: o.GetName(), resource: schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return fmt.Errorf("making policy %s: %w", m.name, err)
	}
	u := &unstructured.Unstructured{Object: object}
	if u.GetKind() == v1alpha1.KindNetworkPolicy {
		m.resource = v1alpha1.GroupVersion().WithResource("weftnetworkpolicies")
	} else {
		u.SetAPIVersion("networking.k8s.io/v1")
		u.SetKind("NetworkPolicy")
	}
	if _, err := r.Cluster.Dynamic.Resource(m.resource).Namespace(namespace).Create(ctx, u, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making %s %s/%s: %w", u.GetKind(), namespace, m.name, err)
	}
	t.made = append(t.made, m)
	return nil
}

// unmake removes the policies of a test.
func (r *runner) unmake(ctx context.Context, t *testRun) error {
	for _, m := range t.made {
		err := r.Cluster.Dynamic.Resource(m.resource).Namespace(namespace).Delete(ctx, m.name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing policy %s/%s: %w", namespace, m.name, err)
		}
	}
	t.made = nil
	return nil
}
