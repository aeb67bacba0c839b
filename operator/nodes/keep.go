// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/operator/ranges"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/k8s"
)

// inOrder puts those first that were there first: of two that claim one range, it
// is theirs. Those in use come before those that are not.
func inOrder(in []v1alpha1.WeftNode) []v1alpha1.WeftNode {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b v1alpha1.WeftNode) int {
		if used(&a) != used(&b) {
			if used(&a) {
				return -1
			}
			return 1
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// keepSpec makes the WeftNode what the Node says. The problem is one of the node's
// ranges, with which all else goes on.
func (n *Nodes) keepSpec(ctx context.Context, node *corev1.Node) (own *v1alpha1.WeftNode, problem, err error) {
	now := &v1alpha1.WeftNode{}
	err = n.client.Get(ctx, client.ObjectKeyFromObject(node), now)
	if err == nil && !used(now) || apierrors.IsNotFound(err) {
		// Its ranges may still change: decide by what it is now.
		err = n.live.Get(ctx, client.ObjectKeyFromObject(node), now)
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, nil, err
	}
	create := apierrors.IsNotFound(err)
	c := choose(n.pool, node, now, func(p netip.Prefix) bool { return n.named(ctx, node.Name, p) })
	want := now.DeepCopy()
	want.Name = node.Name
	want.OwnerReferences = append(slices.DeleteFunc(want.OwnerReferences, ownedByNode),
		metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID})
	if a := addresses(node); len(a) > 0 {
		want.Spec.Addresses = a
	}
	if len(c.ranges) > 0 {
		want.Spec.PodCIDRs = texts(c.ranges)
	}
	n.tell(node, now, want, c.problem)
	switch {
	case create:
		err = n.client.Create(ctx, want)
	case !equality.Semantic.DeepEqual(now, want):
		err = n.client.Update(ctx, want) // fails if it has changed since it was read
	}
	return want, c.problem, err
}

func ownedByNode(r metav1.OwnerReference) bool { return r.Kind == "Node" && r.APIVersion == "v1" }

// tell reports a problem, and what changes of a node that runs.
func (n *Nodes) tell(node *corev1.Node, now, want *v1alpha1.WeftNode, problem error) {
	if problem != nil {
		reason := "PodCIDRConflict"
		if errors.Is(problem, ranges.ErrExhausted) {
			reason = "PodCIDRsExhausted"
		}
		n.report(node, reason, problem)
	}
	has, err := parse(want.Spec.PodCIDRs)
	if outside := k8s.Outside(has, n.ClusterCIDRs); err == nil && outside != nil {
		n.reportOnce(node, "PodCIDROutside", outside)
	}
	if used(now) && !slices.Equal(now.Spec.Addresses, want.Spec.Addresses) {
		n.report(node, "AddressesChanged", fmt.Errorf("the node's addresses were %v and are %v now", now.Spec.Addresses, want.Spec.Addresses))
	}
	if used(now) && !slices.Equal(now.Spec.PodCIDRs, want.Spec.PodCIDRs) {
		n.report(node, "PodCIDRsAdded", fmt.Errorf("the node's pod ranges were %v and are %v now", now.Spec.PodCIDRs, want.Spec.PodCIDRs))
	}
}

// named tells whether a slice of another node speaks of an address in a range; if
// that cannot be said, yes.
func (n *Nodes) named(ctx context.Context, node string, p netip.Prefix) bool {
	var all v1alpha1.WeftEndpointSliceList
	if err := n.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return true
	}
	for i := range all.Items {
		if all.Items[i].NodeName == node {
			continue
		}
		for _, e := range all.Items[i].Endpoints {
			for _, s := range e.Addresses {
				if a, err := netip.ParseAddr(s); err == nil && p.Contains(a) {
					return true
				}
			}
		}
	}
	return false
}

// gone removes what a Node has left behind, as the garbage collector does by the
// owner. The ranges are free when its WeftNode is gone.
func (n *Nodes) gone(ctx context.Context, name string) error {
	delete(n.notReady, name)
	delete(n.up, name)
	delete(n.told, name)
	var own v1alpha1.WeftNode
	err := n.live.Get(ctx, client.ObjectKey{Name: name}, &own)
	if apierrors.IsNotFound(err) {
		n.pool.Release(name)
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(own.OwnerReferences, ownedByNode) {
		return nil // not made here
	}
	if there, err := n.exists(ctx, name); there || err != nil {
		return err
	}
	if err := n.client.Delete(ctx, &own, client.Preconditions{UID: &own.UID}); err != nil {
		return client.IgnoreNotFound(err)
	}
	n.Metrics.Collected(v1alpha1.KindNode, 1)
	n.Log.Info("removed the WeftNode of a node that is gone", "node", name)
	return nil
}

// exists asks for a Node as it is now, not as memory has it.
func (n *Nodes) exists(ctx context.Context, name string) (bool, error) {
	err := n.live.Get(ctx, client.ObjectKey{Name: name}, &corev1.Node{})
	return !apierrors.IsNotFound(err), client.IgnoreNotFound(err)
}

// keepReady sets or removes the taint, and the condition that says why.
func (n *Nodes) keepReady(ctx context.Context, node *corev1.Node, own *v1alpha1.WeftNode, problem error) (time.Duration, error) {
	var agents corev1.PodList
	if err := n.client.List(ctx, &agents, client.InNamespace(n.Namespace), client.MatchingFields{agentOn: node.Name}); err != nil {
		return 0, fmt.Errorf("listing agents: %w", err)
	}
	now := time.Now()
	isReady, message := ready(own, agents.Items)
	if isReady {
		delete(n.notReady, node.Name)
	} else if n.notReady[node.Name].IsZero() {
		n.notReady[node.Name] = now
	}
	if !isReady && len(own.Spec.PodCIDRs) == 0 && problem != nil {
		message = problem.Error()
	}
	taint, wait := keepAway(node, isReady, n.notReady[node.Name], now)
	n.up[node.Name] = !taint
	if wait > 0 {
		return wait, nil // nothing changes yet
	}
	return 0, n.patchNode(ctx, node, taint, message, now)
}

func (n *Nodes) patchNode(ctx context.Context, node *corev1.Node, taint bool, message string, now time.Time) error {
	if taints, changed := withTaint(node.Spec.Taints, taint); changed {
		after := node.DeepCopy()
		after.Spec.Taints = taints
		// The list is one value: the patch fails if the node has changed.
		if err := n.client.Patch(ctx, after, client.MergeFromWithOptions(node, client.MergeFromWithOptimisticLock{})); err != nil {
			return client.IgnoreNotFound(err)
		}
		n.Log.Info("changed whether pods may come to a node", "node", node.Name, "taint", taint, "why", message)
	}
	condition, changed := network(node, taint, message, now)
	if !changed {
		return nil
	}
	patch := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{condition}}}
	patch.Name = node.Name
	// A strategic merge knows conditions by their type: others stay as they are.
	after := patch.DeepCopy()
	before := patch.DeepCopy()
	before.Status.Conditions = nil
	return client.IgnoreNotFound(n.client.Status().Patch(ctx, after, client.StrategicMergeFrom(before)))
}
