// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// reasonPrefix begins the reasons of the conditions that the operator writes.
const reasonPrefix = "Weft"

// nodes lists the nodes that an agent ran on: those with Linux.
func (u *Uninstaller) nodes(ctx context.Context) ([]*corev1.Node, error) {
	list, err := u.cfg.Client.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).
		List(ctx, metav1.ListOptions{LabelSelector: corev1.LabelOSStable + "=linux"})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	return typed[corev1.Node](list)
}

// answers tells whether a node's kubelet is heard. One that says that the node is
// not ready, as it does without a CNI configuration, still runs pods.
func answers(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionUnknown
		}
	}
	return false
}

// releaseNodes takes back what the operator wrote into the nodes, which would keep
// pods away whatever network comes next.
func (u *Uninstaller) releaseNodes(ctx context.Context) error {
	return u.wait(ctx, func() (left []string, err error) {
		nodes, err := u.nodes(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			if err := u.release(ctx, n); apierrors.IsConflict(err) {
				left = append(left, "node "+n.Name+" (another writes it)")
			} else if err != nil && !apierrors.IsNotFound(err) {
				return left, fmt.Errorf("releasing node %s: %w", n.Name, err)
			}
		}
		return left, nil
	})
}

func (u *Uninstaller) release(ctx context.Context, n *corev1.Node) error {
	taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintAgentNotReady })
	version := n.ResourceVersion
	if len(taints) != len(n.Spec.Taints) {
		var err error
		if version, err = u.patch(ctx, n.Name, version, "spec", "taints", taints); err != nil {
			return err
		}
	}
	conditions := slices.DeleteFunc(slices.Clone(n.Status.Conditions), func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeNetworkUnavailable && strings.HasPrefix(c.Reason, reasonPrefix)
	})
	if len(conditions) == len(n.Status.Conditions) {
		return nil
	}
	_, err := u.patch(ctx, n.Name, version, "status", "conditions", conditions, "status")
	return err
}

// patch replaces a list of a node, unless the node has changed since that version.
func (u *Uninstaller) patch(ctx context.Context, node, version, part, field string, list any, sub ...string) (string, error) {
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": version},
		part:       map[string]any{field: list},
	})
	if err != nil {
		return "", fmt.Errorf("encoding a patch: %w", err)
	}
	done, err := u.cfg.Client.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).
		Patch(ctx, node, types.MergePatchType, data, metav1.PatchOptions{}, sub...)
	if err != nil {
		return "", err
	}
	return done.GetResourceVersion(), nil
}
