// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/weftmesh/weft/pkg/metrics"
)

// Failed work is tried again after a time that grows between these.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute
)

// Retries is when an object is tried again that could not be dealt with. Each
// object has its own times: a bad one holds up no other.
func Retries() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)
}

// Counted counts the errors of a reconciler. That an object has changed since it
// was read is none: it is read again.
func Counted(m *metrics.Operator, kind string, f reconcile.Func) reconcile.Reconciler {
	return reconcile.Func(func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
		result, err := f(ctx, req)
		switch {
		case err == nil:
		case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			return reconcile.Result{RequeueAfter: firstRetry}, nil
		case !errors.Is(err, context.Canceled):
			m.ReconcileError(kind)
		}
		return result, err
	})
}

// longest is the longest time between two looks for what no one uses.
const longest = time.Minute

// Every calls look again and again until ctx ends, often enough to find what has not
// been used for the grace period.
func Every(ctx context.Context, grace time.Duration, look func()) error {
	tick := time.NewTicker(interval(grace))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			look()
		}
	}
}

func interval(grace time.Duration) time.Duration { return max(time.Second, min(longest, grace/4)) }
