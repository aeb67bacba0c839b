// SPDX-License-Identifier: Apache-2.0

package nodes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weftmesh/weft/operator/watch"
	"github.com/weftmesh/weft/pkg/api/v1alpha1"
)

// collector removes the slices of nodes that are gone, which the garbage collector
// of Kubernetes has not: those that have lost, or never had, their owner.
type collector struct{ *Nodes }

// Start implements manager.Runnable.
func (c collector) Start(ctx context.Context) error {
	return watch.Every(ctx, c.Grace, func() {
		gone, err := c.collect(ctx)
		c.Metrics.Collected(v1alpha1.KindEndpointSlice, gone)
		if gone > 0 {
			c.Log.Info("removed slices of nodes that are gone", "count", gone)
		}
		if err != nil && ctx.Err() == nil {
			c.Metrics.ReconcileError(v1alpha1.KindEndpointSlice)
			c.Log.Error("removing slices of nodes that are gone", "error", err)
		}
	})
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (collector) NeedLeaderElection() bool { return true }

func (c collector) collect(ctx context.Context) (int, error) {
	var all v1alpha1.WeftEndpointSliceList
	if err := c.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return 0, err
	}
	there := map[string]bool{} // by node, asked once each
	gone := 0
	for i := range all.Items {
		s := &all.Items[i]
		known, asked := there[s.NodeName]
		if !asked {
			var err error
			if known, err = c.belongs(ctx, s.NodeName); err != nil {
				return gone, err
			}
			there[s.NodeName] = known
		}
		if known {
			continue
		}
		err := c.client.Delete(ctx, s.DeepCopy(), client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion})
		if client.IgnoreNotFound(err) != nil {
			return gone, err
		}
		gone++
	}
	return gone, nil
}

// belongs tells whether a node is there in either form: a WeftNode that was not
// made for a Node counts, too.
func (c collector) belongs(ctx context.Context, name string) (bool, error) {
	if c.client.Get(ctx, client.ObjectKey{Name: name}, &corev1.Node{}) == nil {
		return true, nil
	}
	err := c.live.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.WeftNode{})
	if err == nil || client.IgnoreNotFound(err) != nil {
		return true, client.IgnoreNotFound(err)
	}
	return c.exists(ctx, name)
}
