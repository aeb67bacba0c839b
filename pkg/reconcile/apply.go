// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

func (r *Reconciler) applySets(want map[model.SetHash]model.PolicySet) (errs []error) {
	now := r.now()
	for _, hash := range r.sets.missing(want, now) {
		err := r.dp.ApplyPolicySet(want[hash])
		if err := r.sets.done(hash, want[hash], err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (r *Reconciler) applyEndpoints(ctx context.Context, want map[uint16]model.EndpointRow) (errs []error) {
	now := r.now()
	todo := r.endpoints.missing(want, now)
	for slot, row := range want {
		if r.EndpointApplied(row) {
			delete(r.endpoints.failing, slot) // wanted again as it still is
		}
		// A row that is in force may still lack its programs after a restart.
		if r.attached[slot] != row.IfName && !slices.Contains(todo, slot) && now.After(r.endpoints.failing[slot].next) {
			todo = append(todo, slot)
		}
	}
	slices.Sort(todo)
	// Sets know old and new identities alike, so first every running endpoint gets
	// its set, then identities move, and last come endpoints that are new.
	var moving, fresh []uint16
	for _, slot := range todo {
		row, have := want[slot], r.endpoints.applied[slot]
		switch {
		case have.IfIndex == 0 || have.ID != row.ID:
			fresh = append(fresh, slot)
			continue
		case have.Identity != row.Identity:
			moving = append(moving, slot)
			row.Identity = have.Identity
		}
		errs = appendError(errs, r.applyEndpoint(ctx, row, now))
	}
	errs = append(errs, r.moveIdentities(ctx, moving, want)...)
	for _, slot := range fresh {
		errs = appendError(errs, r.applyEndpoint(ctx, want[slot], now))
	}
	return errs
}

// moveIdentities gives endpoints that got their sets their new identities, once no
// running endpoint has a set that may not know them. Where a slot passes to another
// endpoint nobody runs.
func (r *Reconciler) moveIdentities(ctx context.Context, slots []uint16, want map[uint16]model.EndpointRow) (errs []error) {
	running := maps.Clone(want)
	maps.DeleteFunc(running, func(slot uint16, row model.EndpointRow) bool { return r.endpoints.applied[slot].ID != row.ID })
	behind := r.behind(running)
	for _, slot := range slots {
		switch {
		case r.endpoints.failing[slot].err != nil: // was told already
		case behind:
			errs = append(errs, r.endpoints.await(slot, errors.New("its identity moves when every endpoint has its policy set")))
		default:
			errs = appendError(errs, r.applyEndpoint(ctx, want[slot], r.now()))
		}
	}
	return errs
}

func appendError(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}

// applyEndpoint writes the row before the programs are attached: a program that
// runs without its row drops everything, which is right, but needless. Nothing is
// touched while the row's policy set is missing.
func (r *Reconciler) applyEndpoint(ctx context.Context, row model.EndpointRow, now time.Time) error {
	if row.Set != (model.SetHash{}) && !r.sets.holds(row.Set, model.PolicySet{}) {
		return r.endpoints.await(row.Slot, fmt.Errorf("its policy set is not in the kernel: %w", r.sets.failing[row.Set].err))
	}
	if err := r.endpoints.done(row.Slot, row, r.writeEndpoint(row), now); err != nil {
		return err
	}
	if err := r.attach(ctx, row); err != nil {
		return r.endpoints.fail(row.Slot, err, now)
	}
	return nil
}

func (r *Reconciler) writeEndpoint(row model.EndpointRow) error {
	if old, ok := r.devices[row.Slot]; ok && old != row.IfName {
		if err := r.detach(row.Slot); err != nil {
			return fmt.Errorf("detaching from %s: %w", old, err)
		}
	}
	r.devices[row.Slot] = row.IfName
	return r.dp.ApplyEndpoint(row)
}

func (r *Reconciler) attach(ctx context.Context, row model.EndpointRow) error {
	if r.attached[row.Slot] == row.IfName {
		return nil
	}
	if err := r.dp.Attach(ctx, row.IfIndex, row.IfName); err != nil {
		return fmt.Errorf("attaching to %s: %w", row.IfName, err)
	}
	r.attached[row.Slot] = row.IfName
	return nil
}

// detach takes the programs off a slot's device. Nothing counts as attached from
// the first attempt on, which may have done it though it failed.
func (r *Reconciler) detach(slot uint16) error {
	delete(r.attached, slot)
	return r.dp.Detach(r.devices[slot])
}

// applyIPs writes all addresses in one batch, so that flows are looked at once.
// If the batch fails, each row of it is tried alone to find the culprit. While an
// endpoint is behind, the prefixes of policies and the pods of other nodes stay as
// they are: its set would not know the new number of an address that it denies by the
// old one. An address that leads by the tunnel waits for the node's row.
func (r *Reconciler) applyIPs(want map[netip.Prefix]model.IPRow, hold map[uint16]bool, behind bool) (errs []error) {
	now := r.now()
	add := slices.DeleteFunc(r.ips.missing(want, now), func(p netip.Prefix) bool {
		row := want[p]
		return behind && elsewhere(row) || row.Node != 0 && !r.nodes.holds(row.Node, r.nodes.applied[row.Node])
	})
	remove := slices.DeleteFunc(r.ips.surplus(want, now), func(p netip.Prefix) bool {
		have := r.ips.applied[p]
		return hold[have.Slot] || behind && elsewhere(have)
	})
	if len(add) == 0 && len(remove) == 0 {
		return nil
	}
	upsert := make([]model.IPRow, len(add))
	for i, p := range add {
		upsert[i] = want[p]
	}
	if err := r.dp.ApplyIPs(upsert, remove); err == nil {
		for i, p := range add {
			_ = r.ips.done(p, upsert[i], nil, now)
		}
		for _, p := range remove {
			_ = r.ips.removed(p, nil, now)
		}
		return nil
	}
	for i, p := range add {
		err := r.dp.ApplyIPs(upsert[i:i+1], nil)
		if err := r.ips.done(p, upsert[i], err, now); err != nil {
			errs = append(errs, err)
		}
	}
	for i, p := range remove {
		err := r.dp.ApplyIPs(nil, remove[i:i+1])
		if err := r.ips.removed(p, err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// elsewhere tells whether a row's number comes from a policy or from another node.
func elsewhere(r model.IPRow) bool {
	return r.Identity.IsLocal() || r.Identity.IsCluster() && r.Slot == 0
}

func (r *Reconciler) removeEndpoints(want map[uint16]model.EndpointRow, hold map[uint16]bool) (errs []error) {
	now := r.now()
	for _, slot := range r.endpoints.surplus(want, now) {
		if hold[slot] {
			continue
		}
		err := r.detach(slot)
		if err == nil {
			err = r.dp.DeleteEndpoint(slot)
		}
		if err == nil {
			delete(r.devices, slot)
		}
		if err := r.endpoints.removed(slot, err, now); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// removeSets leaves alone a set that an endpoint has which should have moved on and
// failed to.
func (r *Reconciler) removeSets(want map[model.SetHash]model.PolicySet) (errs []error) {
	now := r.now()
	todo := slices.DeleteFunc(r.sets.surplus(want, now), r.setInUse)
	if len(todo) == 0 {
		return nil
	}
	return removeBatch(r.sets, todo, r.dp.DeletePolicySets, now)
}

func (r *Reconciler) setInUse(hash model.SetHash) bool {
	for slot := range r.endpoints.applied {
		uses := func(row model.EndpointRow) bool { return row.Set == hash }
		if slices.ContainsFunc(r.endpoints.possible(slot), uses) {
			return true
		}
	}
	return false
}

// adopt takes what the kernel holds as what is applied, and counts the rows
// that differ from what was thought to be there.
func (r *rows[K, V]) adopt(held map[K]V) (drift int) {
	if r.applied != nil {
		for k, v := range r.applied {
			if have, ok := held[k]; !r.doubted(k) && (!ok || !r.equal(have, v)) {
				drift++
			}
		}
		for k := range held {
			if _, ok := r.applied[k]; !ok {
				drift++
			}
		}
	}
	clear(r.unsure)
	clear(r.failing)
	r.applied = held
	if r.applied == nil {
		r.applied = make(map[K]V)
	}
	return drift
}
