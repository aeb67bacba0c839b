// SPDX-License-Identifier: Apache-2.0

// Package uninstall takes Weft off the nodes of a cluster, before the objects of its
// installation go: agents and Envoys end first, then a pod on every node removes what they
// left there, and then what Weft wrote into the API goes, but for definitions and
// policies, which are the user's. It may be repeated after a failure.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	agent    = "weft-agent"    // DaemonSet, and the label of its pods
	envoy    = "weft-envoy"    // the same
	operator = "weft-operator" // Deployment, its Lease, and the label of its pods
	cleanup  = "weft-cleanup"  // label of the pods that clean, and how their names begin

	labelName = "app.kubernetes.io/name"
	lookEvery = time.Second
)

// Config is what an Uninstaller is made of.
type Config struct {
	Client    dynamic.Interface
	Namespace string // of the release
	// Pod cleans the node that it runs on and ends. Its name and node are filled in.
	Pod *corev1.Pod
	Log *slog.Logger
	// Every is the time between two looks at pods that are waited for; 0: a second.
	Every time.Duration
}

// Uninstaller does it.
type Uninstaller struct{ cfg Config }

// New makes an Uninstaller; Run does the work.
func New(cfg Config) *Uninstaller {
	if cfg.Every == 0 {
		cfg.Every = lookEvery
	}
	return &Uninstaller{cfg: cfg}
}

// Run returns when no node that answers has a trace of Weft. Its error names the
// nodes that do, and why. Nodes that do not answer it can only report.
func (u *Uninstaller) Run(ctx context.Context) error {
	if err := u.endWorkloads(ctx); err != nil {
		return err
	}
	nodes, err := u.nodes(ctx)
	if err != nil {
		return err
	}
	var reachable []string
	for _, n := range nodes {
		if !answers(n) {
			u.cfg.Log.Warn("this node does not answer and is not cleaned; restart it before other pods use it", "node", n.Name)
			continue
		}
		reachable = append(reachable, n.Name)
	}
	if err := u.cleanNodes(ctx, reachable); err != nil {
		return err
	}
	if err := u.releaseNodes(ctx); err != nil {
		return err
	}
	if err := u.removeState(ctx); err != nil {
		return err
	}
	u.cfg.Log.Info("Weft is removed from the nodes", "nodes", len(reachable))
	return nil
}

// endWorkloads ends the agents, which would bring back what is removed, the Envoys, whose
// keepers stand in for an agent that is away, and the operators, which would taint
// nodes without an agent.
func (u *Uninstaller) endWorkloads(ctx context.Context) error {
	for _, w := range []struct{ resource, name string }{
		{"deployments", operator}, {"daemonsets", agent}, {"daemonsets", envoy},
	} {
		err := u.in(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: w.resource}).
			Delete(ctx, w.name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s: %w", w.name, err)
		}
	}
	u.cfg.Log.Info("waiting until agents, Envoys and operators have ended")
	return u.wait(ctx, func() (left []string, err error) {
		nodes, err := u.nodes(ctx)
		if err != nil {
			return nil, err
		}
		pods, err := u.pods(ctx, agent, envoy, operator)
		for _, p := range pods {
			on := slices.IndexFunc(nodes, func(n *corev1.Node) bool { return n.Name == p.Spec.NodeName })
			if on >= 0 && answers(nodes[on]) {
				left = append(left, p.Name+" on "+p.Spec.NodeName)
			}
		}
		return left, err
	})
}

// removeState removes what agents and operators said of themselves.
func (u *Uninstaller) removeState(ctx context.Context) error {
	var errs []error
	err := u.in(schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}).
		Delete(ctx, operator, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		errs = append(errs, fmt.Errorf("deleting the operators' Lease: %w", err))
	}
	for _, kind := range []string{"weftendpointslices", "weftnodes", "weftidentities"} {
		err := u.cfg.Client.Resource(schema.GroupVersionResource{Group: "weftmesh.io", Version: "v1alpha1", Resource: kind}).
			DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("deleting the %s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// wait looks again and again until nothing is left, or ctx ends: then the error
// names what is.
func (u *Uninstaller) wait(ctx context.Context, look func() (left []string, err error)) error {
	tick := time.NewTicker(u.cfg.Every)
	defer tick.Stop()
	for {
		left, err := look()
		if err == nil && len(left) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if len(left) > 0 {
				return fmt.Errorf("%w while waiting for %s", context.Cause(ctx), strings.Join(left, ", "))
			}
			return errors.Join(context.Cause(ctx), err)
		case <-tick.C:
		}
		if err != nil && ctx.Err() == nil {
			u.cfg.Log.Warn("the API server does not answer as it should, trying again", "error", err)
		}
	}
}

func (u *Uninstaller) in(r schema.GroupVersionResource) dynamic.ResourceInterface {
	return u.cfg.Client.Resource(r).Namespace(u.cfg.Namespace)
}

// pods lists the pods of some workloads.
func (u *Uninstaller) pods(ctx context.Context, names ...string) ([]*corev1.Pod, error) {
	list, err := u.in(corev1.SchemeGroupVersion.WithResource("pods")).
		List(ctx, metav1.ListOptions{LabelSelector: labelName + " in (" + strings.Join(names, ",") + ")"})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	return typed[corev1.Pod](list)
}

// typed decodes the items of a list.
func typed[T any](list *unstructured.UnstructuredList) ([]*T, error) {
	out := make([]*T, 0, len(list.Items))
	for _, item := range list.Items {
		t := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, t); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", item.GetName(), err)
		}
		out = append(out, t)
	}
	return out, nil
}
