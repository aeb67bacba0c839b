// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// Patience is how long a node that was ready may be without a ready agent before
// pods are kept away from it: an agent that restarts, or is replaced by a newer
// one, is back sooner, and attached pods do not notice.
const Patience = 30 * time.Second

// Reasons of a node's condition NetworkUnavailable.
const (
	reasonUp       = "WeftIsUp"
	reasonNotReady = "WeftIsNotReady"
)

// ready tells whether pods can have a network on a node, or why not. The pod is
// ready when the agent in it says that it has proven the datapath; the WeftNode
// says the same to everyone else.
func ready(node *v1alpha1.WeftNode, agents []corev1.Pod) (bool, string) {
	agents = slices.DeleteFunc(slices.Clone(agents), func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	if len(agents) == 0 {
		return false, "no agent runs on the node: look at DaemonSet weft-agent"
	}
	i := slices.IndexFunc(agents, podReady)
	if i < 0 {
		return false, fmt.Sprintf("the agent's pod %s is not ready: look at its log", agents[0].Name)
	}
	switch c := meta.FindStatusCondition(node.Status.Conditions, v1alpha1.ConditionReady); {
	case c == nil:
		return false, "the agent has not yet reported in WeftNode " + node.Name
	case c.Status != metav1.ConditionTrue:
		return false, "the agent reports: " + c.Message
	}
	return true, "pods have a network on this node"
}

func podReady(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// keepAway decides whether a node is to have the taint. since is when its agent
// was last seen to become not ready. wait is the time after which to ask again.
func keepAway(node *corev1.Node, isReady bool, since, now time.Time) (taint bool, wait time.Duration) {
	if isReady {
		return false, 0
	}
	if c := unavailable(node); c == nil || c.Status != corev1.ConditionFalse {
		return true, 0 // it was not ready before
	}
	if left := Patience - now.Sub(since); left > 0 {
		return tainted(node), left
	}
	return true, 0
}

func unavailable(node *corev1.Node) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeNetworkUnavailable {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func isOurs(t corev1.Taint) bool { return t.Key == v1alpha1.TaintAgentNotReady }

func tainted(node *corev1.Node) bool { return slices.ContainsFunc(node.Spec.Taints, isOurs) }

// withTaint is the node's taints with ours or without it; false if they are so.
func withTaint(taints []corev1.Taint, want bool) ([]corev1.Taint, bool) {
	ours := corev1.Taint{Key: v1alpha1.TaintAgentNotReady, Effect: corev1.TaintEffectNoSchedule}
	out := slices.DeleteFunc(slices.Clone(taints), isOurs)
	if want {
		if i := slices.IndexFunc(taints, isOurs); i >= 0 && taints[i].Effect == ours.Effect {
			return taints, false
		}
		return append(out, ours), true
	}
	return out, len(out) != len(taints)
}

// network is the condition that goes with the taint; false if the node has it.
func network(node *corev1.Node, taint bool, message string, now time.Time) (corev1.NodeCondition, bool) {
	out := corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse,
		Reason: reasonUp, Message: message, LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now)}
	if taint {
		out.Status, out.Reason = corev1.ConditionTrue, reasonNotReady
	}
	before := unavailable(node)
	if before == nil {
		return out, true
	}
	if before.Status == out.Status {
		out.LastTransitionTime = before.LastTransitionTime
	}
	return out, before.Status != out.Status || before.Reason != out.Reason || before.Message != out.Message
}
