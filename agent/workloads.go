// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/weftmesh/weft/agent/endpointstore"
	"github.com/weftmesh/weft/pkg/state"
)

// workloadLoop keeps in the endpoints' records what the source says of their
// pods, for an agent that starts when the source says it no more.
type workloadLoop struct {
	log     *slog.Logger
	tables  *state.Tables
	records *endpointstore.Store
}

// retryEvery is how often records are written again that could not be.
const retryEvery = time.Minute

// Run follows the tables until ctx ends.
func (l *workloadLoop) Run(ctx context.Context) error {
	follow(ctx, l.tables, retryEvery, func(state.Snapshot) {
		if err := l.records.Follow(l.tables.Pod); err != nil {
			l.log.Error("endpoint records do not know the labels that their pods have now", "error", err)
		}
	})
	return nil
}
