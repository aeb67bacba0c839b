// SPDX-License-Identifier: Apache-2.0

package state

import (
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// Snapshot is all intent at one revision. Its slices and what they point to
// must not be changed.
type Snapshot struct {
	Revision   model.Revision
	Synced     bool // the source has delivered its first whole state
	Pods       []model.Pod
	Namespaces []model.Namespace
	Policies   []model.Policy
	Endpoints  []model.Endpoint
	Identities []model.Identity // sorted by number
	HostAddrs  []netip.Addr
	Services   []model.Service
	Slices     []model.EndpointSlice
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
		Pods:       collect(txn, t.pods.ToTable()),
		Namespaces: collect(txn, t.namespaces.ToTable()),
		Policies:   collect(txn, t.policies.ToTable()),
		Endpoints:  collect(txn, t.endpoints.ToTable()),
		Identities: t.identityList.of(txn, t.identities.ToTable()),
		Services:   collect(txn, t.services.ToTable()),
		Slices:     collect(txn, t.slices.ToTable()),
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
