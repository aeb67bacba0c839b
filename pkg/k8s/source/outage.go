// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/weftmesh/weft/pkg/k8s"
)

// outage knows which kinds cannot be listed or watched now. It says so once when the
// first cannot, and once when all can again.
type outage struct {
	log    *slog.Logger
	failed func(kind string)

	mu     sync.Mutex
	errors map[string]error // by kind
}

func newOutage(log *slog.Logger, failed func(string)) *outage {
	return &outage{log: log, failed: failed, errors: make(map[string]error)}
}

// watched is how a kind is listed and watched, with an eye on what fails.
func (o *outage) watched(k kind) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = k.fields
			out, err := k.list(ctx, opts)
			o.note(ctx, k.name, err)
			return out, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = k.fields
			out, err := k.watch(ctx, opts)
			o.note(ctx, k.name, err)
			return out, err
		},
	}
}

// note records how a request went. That a version is too old to go on from, or a
// form of request is not known, is no outage: a list follows.
func (o *outage) note(ctx context.Context, kind string, err error) {
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	before := len(o.errors)
	if err == nil {
		delete(o.errors, kind)
		if before == 1 && len(o.errors) == 0 {
			o.log.Info("the API server answers again")
		}
		return
	}
	err = k8s.Short(err)
	o.failed(kind)
	o.errors[kind] = err
	if before == 0 {
		o.log.Warn("the API server cannot be heard; what it said last stays in force", "kind", kind, "error", err)
	}
}

// last is an error that stands, or nil.
func (o *outage) last() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, kind := range slices.Sorted(maps.Keys(o.errors)) {
		return fmt.Errorf("reading %s: %w", kind, o.errors[kind])
	}
	return nil
}
