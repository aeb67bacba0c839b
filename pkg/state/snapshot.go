// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// Snapshot is all intent at one revision, of which a ServiceFollower reads what
// became of services. Its slices and what they point to must not be changed.
type Snapshot struct {
	Revision model.Revision
	// Basis is another number whenever anything but services has changed.
	Basis      uint64
	Synced     bool // the source has delivered its first whole state
	Pods       []model.Pod
	Namespaces []model.Namespace
	Policies   []model.Policy
	Endpoints  []model.Endpoint
	Identities []model.Identity
	HostAddrs  []netip.Addr

	txn statedb.ReadTxn
}

// listings are what snapshots share.
type listings struct {
	pods       listing[model.Pod]
	namespaces listing[model.Namespace]
	policies   listing[model.Policy]
	endpoints  listing[model.Endpoint]
	identities listing[model.Identity]
}

// Snapshot reads every input table at once, and gives a channel that closes
// when intent has moved on.
func (t *Tables) Snapshot() (Snapshot, <-chan struct{}) {
	txn := t.db.ReadTxn()
	_, watch := t.intent.AllWatch(txn)
	now := t.intentOf(txn)
	s := Snapshot{
		Revision:   now.Revision,
		Synced:     now.Synced,
		Pods:       t.listed.pods.of(txn, t.pods.ToTable()),
		Namespaces: t.listed.namespaces.of(txn, t.namespaces.ToTable()),
		Policies:   t.listed.policies.of(txn, t.policies.ToTable()),
		Endpoints:  t.listed.endpoints.of(txn, t.endpoints.ToTable()),
		Identities: t.listed.identities.of(txn, t.identities.ToTable()),
		txn:        txn,
	}
	for _, table := range []statedb.TableMeta{t.pods, t.namespaces, t.policies, t.endpoints, t.identities, t.hostAddrs} {
		s.Basis += table.Revision(txn)
	}
	for a := range t.hostAddrs.All(txn) {
		s.HostAddrs = append(s.HostAddrs, a.Addr)
	}
	return s, watch
}

// Revision is the newest revision of intent.
func (t *Tables) Revision() model.Revision { return t.intentOf(t.db.ReadTxn()).Revision }

// DesiredState reads the desired tables at once.
func (t *Tables) DesiredState() ([]DesiredEndpoint, []DesiredSet, []DesiredIP) {
	txn := t.db.ReadTxn()
	return collect(txn, t.rows.ToTable()), collect(txn, t.sets.ToTable()), collect(txn, t.ips.ToTable())
}

// Synced tells whether the source has delivered its first whole state.
func (t *Tables) Synced() bool { return t.intentOf(t.db.ReadTxn()).Synced }
