// SPDX-License-Identifier: Apache-2.0

// Package policies tells in the condition Valid of each policy whether agents
// take it, by the same conversion that they use, and whether nodes' proxies do, as
// the status of WeftNodes says.
package policies

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/metrics"
)

// Add makes the controllers and adds them to the manager.
func Add(ctx context.Context, mgr ctrl.Manager, m *metrics.Operator) error {
	c := mgr.GetClient()
	return errors.Join(
		index(ctx, mgr.GetFieldIndexer()),
		add(mgr, m, v1alpha1.KindNetworkPolicy, &v1alpha1.WeftNetworkPolicy{}, func(ctx context.Context, req reconcile.Request) error {
			var p v1alpha1.WeftNetworkPolicy
			if err := c.Get(ctx, req.NamespacedName, &p); err != nil {
				return client.IgnoreNotFound(err)
			}
			before := p.DeepCopy()
			_, fault := v1alpha1.FromWeftNetworkPolicy(p.DeepCopy())
			return patch(ctx, c, &p, before, &p.Status, v1alpha1.KindNetworkPolicy, fault)
		}),
		add(mgr, m, v1alpha1.KindClusterNetworkPolicy, &v1alpha1.WeftClusterNetworkPolicy{}, func(ctx context.Context, req reconcile.Request) error {
			var p v1alpha1.WeftClusterNetworkPolicy
			if err := c.Get(ctx, req.NamespacedName, &p); err != nil {
				return client.IgnoreNotFound(err)
			}
			before := p.DeepCopy()
			_, fault := v1alpha1.FromWeftClusterNetworkPolicy(p.DeepCopy())
			return patch(ctx, c, &p, before, &p.Status, v1alpha1.KindClusterNetworkPolicy, fault)
		}),
	)
}

func add(mgr ctrl.Manager, m *metrics.Operator, kind string, obj client.Object, f func(context.Context, reconcile.Request) error) error {
	return ctrl.NewControllerManagedBy(mgr).Named(kind).
		For(obj, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&v1alpha1.WeftNode{}, concerned(kind), builder.WithPredicates(faultsChanged())).
		WithOptions(controller.Options{RateLimiter: watch.Retries()}).
		Complete(watch.Counted(m, kind, func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
			return reconcile.Result{}, f(ctx, req)
		}))
}

// patch writes the condition if it is not there yet, and leaves others alone.
func patch(ctx context.Context, c client.Client, obj, before client.Object, status *v1alpha1.PolicyStatus, kind string, fault error) error {
	refused, err := refusedOn(ctx, c, kind, client.ObjectKeyFromObject(obj))
	if err != nil {
		return err
	}
	if !meta.SetStatusCondition(&status.Conditions, condition(obj.GetGeneration(), fault, refused)) {
		return nil
	}
	return client.IgnoreNotFound(c.Status().Patch(ctx, obj,
		client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}
