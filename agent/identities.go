// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/operator/allocator"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// identityLoop is the operator's allocator at work inside a standalone agent:
// every distinct label set of a pod gets an identity as soon as the pod is
// declared, so that it is there before the CNI asks for the pod.
type identityLoop struct {
	log       *slog.Logger
	node      engine.Node
	tables    *state.Tables
	allocator *allocator.Allocator
}

// collectEvery is how often identities that nobody uses are looked for.
const collectEvery = time.Minute

// Run follows the tables until ctx ends.
func (l *identityLoop) Run(ctx context.Context) error {
	follow(ctx, l.tables, collectEvery, func(snap state.Snapshot) {
		if err := l.sync(ctx, snap); err != nil {
			l.log.Error("identities cannot be allocated, pods with new labels must wait", "error", err)
		}
	})
	return nil
}

// sync allocates what is missing and frees what nobody has used for long: an
// identity is in use while a pod has its labels or an endpoint may run with it.
func (l *identityLoop) sync(ctx context.Context, snap state.Snapshot) error {
	labelsOf := engine.LabelsOf(l.node, snap)
	var pods []model.PodKey
	var sets []model.Labels
	for _, p := range snap.Pods {
		if !p.HostNetwork {
			pods, sets = append(pods, p.PodKey), append(sets, labelsOf(p))
		}
	}
	// All at once: one write of the store for each of thousands takes minutes.
	ids, err := l.allocator.AllocateAll(ctx, sets)
	var errs []error
	var without []model.PodKey
	used := make(map[model.IdentityID]bool, len(ids))
	for i, id := range ids {
		if used[id.ID] = true; id.ID == 0 {
			without = append(without, pods[i])
		}
	}
	switch {
	case err != nil && len(without) > 0:
		errs = append(errs, fmt.Errorf("%d pods, such as %s: %w", len(without), without[0], err))
	case err != nil:
		errs = append(errs, err)
	}
	// What an endpoint of an unknown pod runs with cannot be told, so nothing goes.
	unknown := hasUnknownPod(snap)
	if _, err := l.allocator.Sweep(ctx, func(id model.IdentityID) bool { return unknown || used[id] }); err != nil {
		errs = append(errs, err)
	}
	if _, err := l.tables.ReplaceIdentities(l.allocator.List()); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// hasUnknownPod tells whether an endpoint's pod went from the source while no
// agent ran, and its record, of an older agent, does not have its labels: its row
// in the kernel still has the pod's identity.
func hasUnknownPod(snap state.Snapshot) bool {
	known := make(map[model.PodKey]bool, len(snap.Pods))
	for _, p := range snap.Pods {
		known[p.PodKey] = true
	}
	return slices.ContainsFunc(snap.Endpoints, func(e model.Endpoint) bool { return !known[e.Pod] })
}
