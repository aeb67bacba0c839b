// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
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
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		snap, changed := l.tables.Snapshot()
		if snap.Synced {
			if err := l.sync(ctx, snap); err != nil {
				l.log.Error("identities cannot be allocated, pods with new labels must wait", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

func (l *identityLoop) sync(ctx context.Context, snap state.Snapshot) error {
	labelsOf := engine.LabelsOf(l.node, snap)
	var wanted []model.Labels
	for _, p := range snap.Pods {
		if !p.HostNetwork {
			wanted = append(wanted, labelsOf(p))
		}
	}
	ids, err := l.allocator.Sync(ctx, wanted)
	if err != nil {
		return err
	}
	_, err = l.tables.ReplaceIdentities(ids)
	return err
}
