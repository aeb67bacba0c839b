// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// compareTunnel is the part of Compare that is about the tunnel.
func (r *Reconciler) compareTunnel() (drift int, err error) {
	nodes, err := r.dp.Nodes()
	if err != nil {
		return 0, fmt.Errorf("reading nodes: %w", err)
	}
	ids, err := r.dp.Identities()
	if err != nil {
		return 0, fmt.Errorf("reading identities: %w", err)
	}
	known := make(map[model.IdentityID]struct{}, len(ids))
	for _, id := range ids {
		known[id] = struct{}{}
	}
	return r.nodes.adopt(byKey(nodes, func(n model.NodeRow) uint16 { return n.Number })) + r.known.adopt(known), nil
}

func (r *Reconciler) forgetIdentities(want map[model.IdentityID]struct{}) []error {
	now := r.now()
	return removeBatch(r.known, r.known.surplus(want, now), func(ids []model.IdentityID) error { return r.dp.ApplyIdentities(nil, ids) }, now)
}

// learnIdentities waits while an endpoint has a set that may not know them.
func (r *Reconciler) learnIdentities(want map[model.IdentityID]struct{}, behind bool) []error {
	if behind {
		return nil
	}
	now := r.now()
	todo := r.known.missing(want, now)
	return writeBatch(r.known, todo, make([]struct{}, len(todo)), func(first, n int) error { return r.dp.ApplyIdentities(todo[first:first+n], nil) }, now)
}

func (r *Reconciler) applyNodes(want map[uint16]model.NodeRow) []error {
	now := r.now()
	todo := r.nodes.missing(want, now)
	slices.Sort(todo)
	batch := make([]model.NodeRow, len(todo))
	for i, number := range todo {
		batch[i] = want[number]
	}
	return writeBatch(r.nodes, todo, batch, func(first, n int) error { return r.dp.ApplyNodes(batch[first:first+n], nil) }, now)
}

// removeNodes leaves alone a node to which an address leads, or may lead.
func (r *Reconciler) removeNodes(want map[uint16]model.NodeRow) []error {
	now := r.now()
	todo := r.nodes.surplus(want, now)
	if len(todo) == 0 {
		return nil
	}
	led := make(map[uint16]bool)
	for _, row := range r.AppliedIPs() {
		led[row.Node] = true
	}
	todo = slices.DeleteFunc(todo, func(number uint16) bool { return led[number] && number != 0 })
	return removeBatch(r.nodes, todo, func(numbers []uint16) error { return r.dp.ApplyNodes(nil, numbers) }, now)
}

// writeBatch writes rows in one call, and if that fails each alone, to find the
// culprit.
func writeBatch[K comparable, V any](r *rows[K, V], todo []K, values []V, write func(first, n int) error, now time.Time) (errs []error) {
	if len(todo) == 0 {
		return nil
	}
	whole := write(0, len(todo))
	for i, k := range todo {
		err := whole
		if err != nil && len(todo) > 1 {
			err = write(i, 1)
		}
		if err := r.done(k, values[i], err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// AppliedNodes lists the nodes that the kernel holds, or may hold.
func (r *Reconciler) AppliedNodes() []model.NodeRow {
	var out []model.NodeRow
	for number := range r.nodes.applied {
		out = append(out, r.nodes.possible(number)...)
	}
	return out
}

// NodeHeld tells whether the kernel may hold a node of that number.
func (r *Reconciler) NodeHeld(number uint16) bool {
	_, ok := r.nodes.applied[number]
	return ok
}

// AppliedIdentities lists the identities that the kernel believes, or may believe, of
// what comes from other nodes.
func (r *Reconciler) AppliedIdentities() []model.IdentityID {
	out := make([]model.IdentityID, 0, len(r.known.applied))
	for id := range r.known.applied {
		out = append(out, id)
	}
	return out
}
