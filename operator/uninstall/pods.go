// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// podName is the name of a node's pod; names of nodes may be too long for one.
func podName(node string) string {
	sum := sha256.Sum256([]byte(node))
	return cleanup + "-" + hex.EncodeToString(sum[:8])
}

// cleanNodes runs the pod on each of the nodes, all at a time.
func (u *Uninstaller) cleanNodes(ctx context.Context, nodes []string) error {
	if err := u.removePods(ctx); err != nil {
		return err
	}
	byPod := make(map[string]string, len(nodes))
	for _, node := range nodes {
		byPod[podName(node)] = node
		if err := u.createPod(ctx, node); err != nil {
			return fmt.Errorf("cleaning node %s: %w", node, err)
		}
	}
	u.cfg.Log.Info("cleaning the nodes", "nodes", len(nodes))
	failed := make(map[string]string) // node: why
	err := u.wait(ctx, func() ([]string, error) {
		pods, err := u.pods(ctx, cleanup)
		if err != nil {
			return nil, err
		}
		there := make(map[string]*corev1.Pod, len(pods))
		for _, p := range pods {
			there[p.Name] = p
		}
		var left []string
		for name, node := range byPod {
			switch p := there[name]; {
			case p == nil:
				failed[node] = "its pod was deleted by another"
			case p.Status.Phase == corev1.PodFailed:
				failed[node] = reason(p)
			case p.Status.Phase != corev1.PodSucceeded:
				left = append(left, "node "+node+" ("+reason(p)+")")
			}
		}
		return left, nil
	})
	errs := []error{err}
	for _, node := range nodes { // in their order
		if why, ok := failed[node]; ok {
			errs = append(errs, fmt.Errorf("node %s is not clean: %s", node, why))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return u.removePods(ctx)
}

func (u *Uninstaller) createPod(ctx context.Context, node string) error {
	pod := u.cfg.Pod.DeepCopy()
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	pod.Name, pod.Namespace, pod.Spec.NodeName = podName(node), u.cfg.Namespace, node
	if pod.Labels == nil {
		pod.Labels = make(map[string]string)
	}
	pod.Labels[labelName] = cleanup
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(pod)
	if err != nil {
		return fmt.Errorf("encoding the pod: %w", err)
	}
	_, err = u.in(corev1.SchemeGroupVersion.WithResource("pods")).
		Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
	return err
}

// removePods removes the pods, also those of an attempt that failed.
func (u *Uninstaller) removePods(ctx context.Context) error {
	return u.wait(ctx, func() (left []string, err error) {
		pods, err := u.pods(ctx, cleanup)
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			left = append(left, "pod "+p.Name)
			if p.DeletionTimestamp != nil {
				continue
			}
			err := u.in(corev1.SchemeGroupVersion.WithResource("pods")).Delete(ctx, p.Name, metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return left, fmt.Errorf("deleting pod %s: %w", p.Name, err)
			}
		}
		return left, nil
	})
}

// reason is what is known of why a pod has not succeeded.
func reason(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode != 0:
			return strings.TrimSpace(fmt.Sprintf("%s %s", c.State.Terminated.Reason, c.State.Terminated.Message))
		case c.State.Waiting != nil:
			return strings.TrimSpace(fmt.Sprintf("%s %s", c.State.Waiting.Reason, c.State.Waiting.Message))
		}
	}
	if p.Status.Message != "" || p.Status.Reason != "" {
		return strings.TrimSpace(p.Status.Reason + " " + p.Status.Message)
	}
	return "pod " + p.Name + " is " + strings.ToLower(string(p.Status.Phase))
}
