// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/pkg/tunnel"
)

// DefaultCompareEvery is how often the kernel's maps are compared with the
// tables.
const DefaultCompareEvery = time.Minute

// Counter counts something by kind.
type Counter func(kind string, n int)

// Config is what an Engine works with.
type Config struct {
	Log      *slog.Logger
	Node     Node
	Tables   *state.Tables
	Datapath reconcile.Datapath
	Errors   Counter // rows that failed, by kind
	Drift    Counter // rows that the kernel held otherwise than written
	// CompareEvery is the time between two comparisons with the kernel's maps;
	// 0: DefaultCompareEvery.
	CompareEvery time.Duration
	// Proxy, Proxied and Rulesets are for what is asked above ports; each may be nil.
	Proxy    Proxy
	Proxied  ProxiedFlows
	Rulesets RulesetStore
}

// Engine compiles and reconciles. Run is its only loop; View and Realized may
// be read from anywhere.
type Engine struct {
	cfg      Config
	rec      *reconcile.Reconciler
	realized *Realized
	view     atomic.Pointer[View]
	before   memory
	compiler *compiler
	services lb.Compiler
	follower *state.ServiceFollower
	numbers  *tunnel.Numbers // of nodes, in the kernel
	// last is the last compilation of policies, if it is in the kernel in full: it
	// stands until something that it was made from changes.
	last *outcome
	// book are the numbers of rulesets, and offered what others know of it.
	book            rulesets.Book
	settled         rulesets.Book // that the kernel has the policy sets of
	offered         offer
	rulesetRevision atomic.Uint64 // that the proxy was told last
}

// outcome is a compilation and what the kernel was to hold by it.
type outcome struct {
	basis  state.Basis
	result Result
	want   reconcile.Wanted
}

// New makes an engine; nothing happens before Run.
func New(cfg Config) *Engine {
	e := &Engine{cfg: cfg, rec: reconcile.New(cfg.Datapath, time.Now), realized: NewRealized(),
		compiler: newCompiler(), services: lb.Compiler{Node: cfg.Node.Name}}
	e.view.Store(&View{Names: &flow.Maps{}, Services: lb.NewBook()})
	return e
}

// Realized tells how far the kernel is.
func (e *Engine) Realized() *Realized { return e.realized }

// View is the newest compilation, for those who show or explain it.
func (e *Engine) View() *View { return e.view.Load() }

// Run adopts what the kernel holds and then follows the tables until ctx ends.
// What is in the kernel stays there.
func (e *Engine) Run(ctx context.Context) error {
	if _, err := e.rec.Compare(); err != nil {
		return fmt.Errorf("adopting what the kernel holds: %w", err)
	}
	e.adopt()
	if err := e.followServices(); err != nil {
		return err
	}
	compare := time.NewTicker(cmp.Or(e.cfg.CompareEvery, DefaultCompareEvery))
	defer compare.Stop()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	finish := newFinisher(e.cfg)
	defer finish.timer.Stop()
	for ctx.Err() == nil {
		snap, changed := e.cfg.Tables.Snapshot()
		if snap.Synced && ctx.Err() == nil {
			e.realize(ctx, snap)
		}
		finish.arm()
		retry.Reset(untilNext(e.rec.NextTry()))
		for waiting := true; waiting; {
			waiting = false
			select {
			case <-ctx.Done():
			case <-changed:
			case <-retry.C:
			case <-compare.C:
				e.compare()
				e.tendRulesets(ctx)
			case <-finish.timer.C:
				finish.run(changed)
				waiting = true // the tables are as they were
			}
		}
	}
	return nil
}

// adopt takes up the numbers that a former agent gave.
func (e *Engine) adopt() {
	e.before.prefixes = adoptedPrefixes(e.rec)
	e.numbers = tunnel.NewNumbers(e.rec.AppliedNodes())
	e.adoptRulesets()
}

func untilNext(at time.Time) time.Duration {
	if at.IsZero() {
		return time.Hour
	}
	return max(time.Until(at), time.Millisecond)
}

func (e *Engine) compare() {
	drift, err := e.rec.Compare()
	if err != nil {
		e.cfg.Log.Error("cannot read the kernel's maps", "error", err)
		return
	}
	if drift > 0 {
		e.cfg.Log.Warn("the kernel's maps were changed by someone else, mending", "rows", drift)
		e.cfg.Drift("kernel", drift)
	}
}

// followServices adopts the numbers of backends in the kernel; from then on what
// becomes of services is told once.
func (e *Engine) followServices() (err error) {
	e.services.Adopt(e.rec.AppliedBackends())
	e.follower, err = e.cfg.Tables.FollowServices()
	return err
}

// realize brings the kernel to the snapshot. Services and policies are compiled
// apart: neither changes what becomes of the other.
func (e *Engine) realize(ctx context.Context, snap state.Snapshot) {
	if err := e.changeServices(snap); err != nil {
		e.cfg.Log.Error("cannot write the desired tables", "error", err)
	}
	if e.last != nil && e.last.basis == snap.Basis {
		again := e.last.result
		again.View.Revision = snap.Revision
		if e.pass(ctx, &again, e.last.want); ctx.Err() != nil {
			return
		}
		e.keep(snap, again, e.last.want)
		e.settleRulesets(ctx)
		e.publish(snap, again)
		return
	}
	e.last = nil
	e.realizePolicies(ctx, snap)
}

// changeServices compiles the services that have changed.
func (e *Engine) changeServices(snap state.Snapshot) error {
	ch := e.follower.Next(snap)
	ch.HostPorts, ch.HostAddrs = portPods(snap), snap.OwnAddrs
	before := e.services.HostPorts()
	changes := e.services.Update(ch)
	e.warnPorts(before, e.services.HostPorts())
	e.rec.ChangeServices(changes)
	return e.cfg.Tables.ChangeServices(changes, snap.Revision)
}

// realizePolicies brings the kernel to the snapshot's policies, step by step.
func (e *Engine) realizePolicies(ctx context.Context, snap state.Snapshot) {
	steps, err := plan(e.before, snap, kernelOf{e.rec, snap, e.cfg.Node.Name})
	if err != nil {
		e.cfg.Log.Error("cannot bring the policies into force, the last good state stays", "error", err)
		return
	}
	var last Result
	var want reconcile.Wanted
	done, overlay := 0, e.overlay(snap)
	for i, st := range steps {
		st.running, st.applied, st.overlay = e.rec.Running(), e.rec.AppliedIP, overlay
		st.inForce, st.book = e.holders(), e.book
		if i > 0 && !e.knowsAll(st) {
			break // an address still has a number that this step's sets would not know
		}
		if last, err = e.compiler.compile(e.cfg.Node, snap, st); err != nil {
			e.cfg.Log.Error("cannot bring the policies into force, the last good state stays", "error", err)
			return
		}
		e.rec.ChangeIPs(last.Desired.IPs)
		if err := e.cfg.Tables.ApplyDesired(last.Desired); err != nil {
			e.cfg.Log.Error("cannot write the desired tables", "error", err)
			return
		}
		e.warn(e.view.Load(), &last.View)
		if e.offerRulesets(ctx, last.book); ctx.Err() != nil {
			return
		}
		want = reconcile.Want(e.cfg.Tables)
		want.Hold, want.Known = last.hold(), st.wire()
		if e.pass(ctx, &last, want); ctx.Err() != nil {
			return // what is not in the kernel is for the next agent
		}
		e.before = memory{policies: st.policies, prefixes: st.universe, identities: st.identities}
		done++
	}
	if done == len(steps) {
		e.keep(snap, last, want)
		e.settleRulesets(ctx)
	}
	e.publish(snap, last)
}

// pass shows a compilation, with the services there are, and brings the kernel
// nearer to it.
func (e *Engine) pass(ctx context.Context, r *Result, want reconcile.Wanted) {
	r.View.withServices(e.services.Book())
	r.View.HostPorts = e.services.HostPorts()
	view := r.View
	e.view.Store(&view)
	if err := e.rec.Pass(ctx, want); err != nil && ctx.Err() == nil {
		e.cfg.Log.Warn("some rows are not in the kernel yet, trying again", "error", err)
	}
}

// keep lets a compilation stand if nothing of it waits or has failed: it would come
// out the same again.
func (e *Engine) keep(snap state.Snapshot, r Result, want reconcile.Wanted) {
	e.last = nil
	if len(r.waiting) == 0 && !e.rec.PoliciesFailing() {
		e.last = &outcome{basis: snap.Basis, result: r, want: want}
	}
}

// knowsAll tells whether the sets of a step know every number that an address or a
// packet from another node may have in the kernel and that the sets before knew: one
// they do not know would slip past their denies.
func (e *Engine) knowsAll(st step) bool {
	for _, row := range e.rec.AppliedIPs() {
		if row.Identity.IsLocal() && st.universe[row.Prefix] != row.Identity {
			return false
		}
		if e.before.identities.has(row.Identity) && !st.identities.has(row.Identity) {
			return false
		}
	}
	for _, id := range e.rec.AppliedIdentities() {
		if e.before.identities.has(id) && !st.identities.has(id) {
			return false
		}
	}
	return true
}

// warn logs what cannot work about a policy when it first does not.
func (e *Engine) warn(before, now *View) {
	for _, p := range now.Policies {
		if p.Message == "" {
			continue
		}
		known := slices.ContainsFunc(before.Policies, func(q PolicyView) bool { return q.Key == p.Key && q.Message == p.Message })
		if !known {
			e.cfg.Log.Warn("a policy cannot work as it is", "policy", p.Key.String(), "problem", p.Message)
		}
	}
}

// publish tells waiters what is in force now.
func (e *Engine) publish(snap state.Snapshot, last Result) {
	failing := e.rec.Failing()
	for kind, errs := range failing {
		e.cfg.Errors(kind, len(errs))
	}
	status := make(map[uint32]EndpointStatus, len(last.Desired.Endpoints))
	for _, row := range last.Desired.Endpoints {
		old, _ := e.realized.Endpoint(row.ID)
		st := EndpointStatus{Revision: old.Revision, Err: e.rec.EndpointError(row.Slot)}
		if st.Err == nil && e.rec.EndpointApplied(row) && e.rec.AddressesApplied(row) {
			st.Revision = snap.Revision
		}
		status[row.ID] = st
	}
	for id, w := range last.waiting {
		old, _ := e.realized.Endpoint(id)
		status[id] = EndpointStatus{Revision: old.Revision, Waiting: w.reason}
	}
	e.realized.update(func(r *Realized) {
		r.desired, r.endpoints, r.failing = snap.Revision, status, failing
		if len(failing) == 0 && !last.allocating() {
			r.realized = snap.Revision
		}
	})
}

// adoptedPrefixes are the numbers that a former agent gave to prefixes.
func adoptedPrefixes(rec *reconcile.Reconciler) prefixIDs {
	out := make(prefixIDs)
	for _, row := range rec.AppliedIPs() {
		if row.Identity.IsLocal() {
			out[row.Prefix] = row.Identity
		}
	}
	return out
}

// allocating tells whether an endpoint of a known pod waits for its identity.
func (r *Result) allocating() bool {
	for _, w := range r.waiting {
		if w.allocation {
			return true
		}
	}
	return false
}

// hold lists the slots whose rows must stay though they are not compiled.
func (r *Result) hold() map[uint16]bool {
	out := make(map[uint16]bool, len(r.waiting))
	for _, w := range r.waiting {
		out[w.slot] = true
	}
	return out
}
