// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// EndpointTarget is where endpoint rows and their programs live. Apply and
// Attach are idempotent; removing what is not there succeeds.
type EndpointTarget interface {
	Attach(ctx context.Context, ifindex uint32, ifname string) error
	Detach(ifname string) error
	ApplyEndpoint(model.EndpointRow) error
	DeleteEndpoint(slot uint16) error
}

// AttachFinisher does what Attach put off, device by device.
type AttachFinisher interface {
	FinishAttach() (left int, err error)
}

// PolicyTarget holds the policy sets and what is known of addresses.
type PolicyTarget interface {
	ApplyPolicySet(model.PolicySet) error
	DeletePolicySets([]model.SetHash) error
	ApplyIPs(upsert []model.IPRow, remove []netip.Prefix) error
}

// TunnelTarget holds what is known of the nodes at the other ends of the tunnel, and
// which identities are believed of what comes from there. Without a tunnel nothing is
// written.
type TunnelTarget interface {
	ApplyNodes(upsert []model.NodeRow, remove []uint16) error
	ApplyIdentities(upsert, remove []model.IdentityID) error
	Nodes() ([]model.NodeRow, error)
	Identities() ([]model.IdentityID, error)
}

// Dumper tells what the kernel holds now.
type Dumper interface {
	Endpoints() ([]model.EndpointRow, error)
	PolicySets() (map[model.SetHash]model.PolicySet, error)
	IPs() ([]model.IPRow, error)
	Services() (model.ServiceRows, error)
}

// Datapath is all of a node's datapath that the reconciler writes.
type Datapath interface {
	EndpointTarget
	AttachFinisher
	PolicyTarget
	ServiceTarget
	TunnelTarget
	Dumper
}

// Reconciler is not safe for concurrent use: one loop owns it.
type Reconciler struct {
	dp  Datapath
	now func() time.Time

	endpoints *rows[uint16, model.EndpointRow]
	sets      *rows[model.SetHash, model.PolicySet]
	ips       *tracked[netip.Prefix, model.IPRow]
	nodes     *rows[uint16, model.NodeRow]
	known     *rows[model.IdentityID, struct{}]
	services  *services
	attached  map[uint16]string // devices whose programs this process has attached
	// devices are the last known names: the row of a device that is gone is read
	// back without one, but what was pinned for it must still go.
	devices map[uint16]string
}

// New makes a reconciler of the datapath.
func New(dp Datapath, now func() time.Time) *Reconciler {
	return &Reconciler{
		dp: dp, now: now,
		endpoints: newRows[uint16]("endpoint slot", func(a, b model.EndpointRow) bool { return a == b }),
		sets:      newRows[model.SetHash]("policy set", func(_, _ model.PolicySet) bool { return true }),
		ips:       newTracked[netip.Prefix]("address", func(a, b model.IPRow) bool { return a == b }),
		nodes:     newRows[uint16]("node", func(a, b model.NodeRow) bool { return a == b }),
		known:     newRows[model.IdentityID]("identity", func(_, _ struct{}) bool { return true }),
		services:  newServices(dp),
		attached:  make(map[uint16]string),
		devices:   make(map[uint16]string),
	}
}

// Compare reads what the kernel holds, so that the next pass mends what differs
// from the tables. It must run once before the first pass.
func (r *Reconciler) Compare() (drift int, err error) {
	eps, err := r.dp.Endpoints()
	if err != nil {
		return 0, fmt.Errorf("reading endpoint rows: %w", err)
	}
	sets, err := r.dp.PolicySets()
	if err != nil {
		return 0, fmt.Errorf("reading policy sets: %w", err)
	}
	ips, err := r.dp.IPs()
	if err != nil {
		return 0, fmt.Errorf("reading addresses: %w", err)
	}
	held, err := r.dp.Services()
	if err != nil {
		return 0, fmt.Errorf("reading services: %w", err)
	}
	drift += r.endpoints.adopt(byKey(eps, func(e model.EndpointRow) uint16 { return e.Slot }))
	drift += r.sets.adopt(sets)
	drift += r.ips.adopt(byKey(ips, func(i model.IPRow) netip.Prefix { return i.Prefix }))
	drift += r.services.adopt(held)
	tunnel, err := r.compareTunnel()
	if err != nil {
		return 0, err
	}
	drift += tunnel
	for _, e := range eps {
		if e.IfName != "" {
			r.devices[e.Slot] = e.IfName
		}
	}
	clear(r.attached) // links are looked at again, too
	return drift, nil
}

// Pass brings the kernel nearer to what is desired, in an order in which no
// packet meets less policy than both the old and the new state ask for: sets,
// endpoints that use them, identities that both know, nodes, addresses that lead to
// these, and only then what is no longer used. An identity is forgotten before sets
// forget it: what comes from another node with it counts as unknown then. When ctx ends it stops between two of these, with the error of ctx:
// each may wait for the kernel many times. Of the rows that failed in a step it names
// one and counts the others.
func (r *Reconciler) Pass(ctx context.Context, want Wanted) error {
	var errs []error
	for _, step := range []func() []error{
		func() []error { return r.forgetIdentities(want.Known) },
		func() []error { return r.applySets(want.Sets) },
		func() []error { return r.applyEndpoints(ctx, want.Endpoints) },
		func() []error { return r.learnIdentities(want.Known, r.behind(want.Endpoints)) },
		func() []error { return r.applyNodes(want.Nodes) },
		func() []error { return r.applyIPs(want.Hold, r.behind(want.Endpoints)) },
		func() []error { return r.removeNodes(want.Nodes) },
		func() []error { return r.services.pass(r.now()) }, // nobody is sent to what goes next
		func() []error { return r.removeEndpoints(want.Endpoints, want.Hold) },
		func() []error { return r.removeSets(want.Sets) },
	} {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = appendError(errs, summary(step()))
	}
	r.endpoints.forget(want.Endpoints)
	r.sets.forget(want.Sets)
	r.ips.settle()
	r.nodes.forget(want.Nodes)
	r.known.forget(want.Known)
	return errors.Join(errs...)
}

// ChangeIPs tells what the kernel is to know of addresses from the next pass on, by
// how it differs from before. A new reconciler has been told nothing.
func (r *Reconciler) ChangeIPs(ch model.IPChanges) {
	for _, p := range ch.Gone {
		r.ips.drop(p)
	}
	for _, row := range ch.Put {
		r.ips.set(row.Prefix, row)
	}
}

// ChangeServices tells what the kernel is to hold of services from the next pass on,
// by how it differs from before. A new reconciler has been told nothing.
func (r *Reconciler) ChangeServices(ch model.ServiceChanges) { r.services.change(ch) }

// summary is one error for many: a map that is full refuses thousands of rows.
func summary(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%d rows, such as %w", len(errs), errs[0])
}

// Wanted is the desired state by key, but for addresses and services.
type Wanted struct {
	Endpoints map[uint16]model.EndpointRow
	Sets      map[model.SetHash]model.PolicySet
	Nodes     map[uint16]model.NodeRow
	// Known are the identities that every set knows, and that are believed of what
	// comes from other nodes. The caller sets it.
	Known map[model.IdentityID]struct{}
	// Hold are slots that nothing is known of yet: what the kernel has for them
	// stays as it is.
	Hold map[uint16]bool
}

// Want reads the desired tables of endpoints and policies.
func Want(t *state.Tables) Wanted {
	eps, sets := t.DesiredPolicies()
	w := Wanted{
		Endpoints: make(map[uint16]model.EndpointRow, len(eps)),
		Sets:      make(map[model.SetHash]model.PolicySet, len(sets)),
		Nodes:     make(map[uint16]model.NodeRow),
	}
	for _, e := range eps {
		w.Endpoints[e.Slot] = e.EndpointRow
	}
	for _, s := range sets {
		w.Sets[s.Hash] = s.PolicySet
	}
	for _, n := range t.DesiredNodes() {
		w.Nodes[n.Number] = n.NodeRow
	}
	return w
}

// Failing lists the rows that are not as they should be, by kind.
func (r *Reconciler) Failing() map[string][]error {
	out := make(map[string][]error)
	collectFailures(out, r.endpoints)
	collectFailures(out, r.sets)
	collectFailures(out, r.ips.rows)
	collectFailures(out, r.nodes)
	collectFailures(out, r.known)
	collectFailures(out, r.services.frontends.rows)
	collectFailures(out, r.services.slots.rows)
	collectFailures(out, r.services.backends.rows)
	return out
}

// PoliciesFailing tells whether a row of an endpoint, a policy, an address or a node is
// not as it should be.
func (r *Reconciler) PoliciesFailing() bool {
	return len(r.endpoints.failing) > 0 || len(r.sets.failing) > 0 || len(r.ips.failing) > 0 ||
		len(r.nodes.failing) > 0 || len(r.known.failing) > 0
}

// Running lists the identities that the kernel has for endpoints, by the
// endpoints' numbers.
func (r *Reconciler) Running() map[uint32]model.IdentityID {
	out := make(map[uint32]model.IdentityID, len(r.endpoints.applied))
	for _, row := range r.endpoints.applied {
		out[row.ID] = row.Identity
	}
	return out
}

// AppliedSets tells each endpoint's row with its policy set, as the kernel holds them,
// or may hold them.
func (r *Reconciler) AppliedSets() iter.Seq2[model.EndpointRow, model.PolicySet] {
	return func(yield func(model.EndpointRow, model.PolicySet) bool) {
		for _, row := range r.endpoints.applied {
			if !yield(row, r.sets.applied[row.Set]) {
				return
			}
		}
	}
}

// EndpointError is why an endpoint's row is not in force, or nil.
func (r *Reconciler) EndpointError(slot uint16) error { return r.endpoints.failing[slot].err }

// EndpointApplied tells whether exactly this row is in force.
func (r *Reconciler) EndpointApplied(row model.EndpointRow) bool {
	return r.endpoints.holds(row.Slot, row) && r.attached[row.Slot] == row.IfName
}

// AddressesApplied tells whether the endpoint's addresses lead to it.
func (r *Reconciler) AddressesApplied(row model.EndpointRow) bool {
	for _, a := range []netip.Addr{row.IPv4, row.IPv6} {
		if !a.IsValid() {
			continue
		}
		p := netip.PrefixFrom(a, a.BitLen())
		if r.ips.doubted(p) || r.ips.applied[p].Slot != row.Slot {
			return false
		}
	}
	return true
}

// behind tells whether an endpoint runs, or may run, with another policy set than
// it should.
func (r *Reconciler) behind(want map[uint16]model.EndpointRow) bool {
	for slot, row := range want {
		if have, ok := r.endpoints.applied[slot]; ok && (r.endpoints.doubted(slot) || have.Set != row.Set) {
			return true
		}
	}
	return false
}

// AppliedIPs lists the addresses that the kernel holds, or may hold: of one whose
// write failed, every row that it may have.
func (r *Reconciler) AppliedIPs() []model.IPRow {
	out := slices.AppendSeq(make([]model.IPRow, 0, len(r.ips.applied)), maps.Values(r.ips.applied))
	for _, tried := range r.ips.unsure {
		out = append(out, tried...)
	}
	return out
}

// AppliedIP is what the kernel has for an address, or may have.
func (r *Reconciler) AppliedIP(p netip.Prefix) (model.IPRow, bool) {
	row, ok := r.ips.applied[p]
	return row, ok
}

// AppliedBackends lists the backends that the kernel holds, or may hold.
func (r *Reconciler) AppliedBackends() []model.BackendRow {
	return slices.Collect(maps.Values(r.services.backends.applied))
}

// NextTry is when the earliest failing row is due; zero if none fails.
func (r *Reconciler) NextTry() time.Time {
	var at time.Time
	for _, t := range []time.Time{r.endpoints.nextTry(), r.sets.nextTry(), r.ips.nextTry(), r.nodes.nextTry(), r.known.nextTry(),
		r.services.frontends.nextTry(), r.services.slots.nextTry(), r.services.backends.nextTry()} {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

func collectFailures[K comparable, V any](out map[string][]error, r *rows[K, V]) {
	for k, f := range r.failing {
		out[r.kind] = append(out[r.kind], fmt.Errorf("%v: %w", k, f.err))
	}
}

func byKey[K comparable, V any](in []V, key func(V) K) map[K]V {
	out := make(map[K]V, len(in))
	for _, v := range in {
		out[key(v)] = v
	}
	return out
}
