// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
	"github.com/weftmesh/weft/pkg/model"
)

// Start implements manager.Runnable: it collects, as long as this operator leads.
func (x *Identities) Start(ctx context.Context) error {
	return watch.Every(ctx, x.Grace, func() {
		gone, err := x.sweep(ctx)
		x.Metrics.Collected(v1alpha1.KindIdentity, len(gone))
		x.Metrics.SetIdentities(x.alloc.Len())
		if len(gone) > 0 {
			x.Log.Info("removed unused identities", "count", len(gone), "first", gone[0])
		}
		if err != nil && ctx.Err() == nil {
			x.Metrics.ReconcileError(v1alpha1.KindIdentity)
			x.Log.Error("removing unused identities", "error", err)
		}
	})
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (x *Identities) NeedLeaderElection() bool { return true }

func (x *Identities) sweep(ctx context.Context) ([]model.IdentityID, error) {
	if err := x.loaded(ctx); err != nil {
		return nil, err
	}
	used, err := x.used(ctx)
	if err != nil {
		return nil, err
	}
	used[x.store.Newest()] = true
	return x.alloc.Sweep(ctx, func(id model.IdentityID) bool { return used[id] })
}

// used gathers what pods need and what slices name. A pod whose labels cannot be
// told has no identity yet.
func (x *Identities) used(ctx context.Context) (map[model.IdentityID]bool, error) {
	used := make(map[model.IdentityID]bool)
	var endpoints v1alpha1.WeftEndpointSliceList
	if err := x.client.List(ctx, &endpoints, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing slices: %w", err)
	}
	for i := range endpoints.Items {
		for _, e := range endpoints.Items[i].Endpoints {
			used[model.IdentityID(e.Identity)] = true
		}
	}
	var pods corev1.PodList
	if err := x.client.List(ctx, &pods, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	for i := range pods.Items {
		if !wants(&pods.Items[i]) {
			continue
		}
		labels, err := x.labelsOf(ctx, &pods.Items[i])
		if err != nil {
			x.Log.Warn("a pod's labels cannot be told", "pod", client.ObjectKeyFromObject(&pods.Items[i]).String(), "error", err)
			continue
		}
		if id, ok := x.alloc.Find(labels); ok {
			used[id.ID] = true
		}
	}
	return used, nil
}
