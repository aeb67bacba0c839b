// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// Snapshot is all intent at one revision, of which a ServiceFollower reads what
// became of services. Its slices and what they point to must not be changed.
type Snapshot struct {
	Revision model.Revision
	// Basis is another one whenever anything but services has changed.
	Basis      Basis
	Synced     bool // the source has delivered its first whole state
	Pods       []model.Pod
	Namespaces []model.Namespace
	Policies   []model.Policy
	Endpoints  []model.Endpoint
	Identities []model.Identity // sorted by number
	HostAddrs  []netip.Addr
	OwnAddrs   []netip.Addr        // HostAddrs without those that stand for a whole subnet
	Nodes      []model.ClusterNode // this one, too
	NodeSlices []model.NodeSlice   // those of this node, too
	APIServers []netip.Addr        // endpoints of the service default/kubernetes, sorted

	txn statedb.ReadTxn
}

// Basis tells what a snapshot's policies and addresses are compiled from.
type Basis struct {
	revisions  statedb.Revision // of the tables, added up
	apiServers string
}

// listings are what snapshots share.
type listings struct {
	pods       listing[model.Pod]
	namespaces listing[model.Namespace]
	policies   listing[model.Policy]
	endpoints  listing[model.Endpoint]
	identities listing[model.Identity]
	nodes      listing[model.ClusterNode]
	nodeSlices listing[model.NodeSlice]
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
		Nodes:      t.listed.nodes.of(txn, t.nodes.ToTable()),
		NodeSlices: t.listed.nodeSlices.of(txn, t.nodeSlices.ToTable()),
		APIServers: t.apiServers(txn),
		txn:        txn,
	}
	for _, table := range []statedb.TableMeta{
		t.pods, t.namespaces, t.policies, t.endpoints, t.identities, t.hostAddrs, t.nodes, t.nodeSlices,
	} {
		s.Basis.revisions += table.Revision(txn)
	}
	s.Basis.apiServers = fmt.Sprint(s.APIServers)
	for a := range t.hostAddrs.All(txn) {
		s.HostAddrs = append(s.HostAddrs, a.Addr)
		if !a.Subnet {
			s.OwnAddrs = append(s.OwnAddrs, a.Addr)
		}
	}
	return s, watch
}

// apiServers are the addresses behind the service that Kubernetes keeps of its API
// servers.
func (t *Tables) apiServers(txn statedb.ReadTxn) (out []netip.Addr) {
	service := model.ServiceKey{Namespace: "default", Name: "kubernetes"}
	for s := range t.slices.Prefix(txn, primary(sliceKey).Query(service.Namespace+"/")) {
		if s.Service != service {
			continue
		}
		for _, b := range s.Backends {
			out = append(out, b.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Revision is the newest revision of intent.
func (t *Tables) Revision() model.Revision { return t.intentOf(t.db.ReadTxn()).Revision }

// DesiredPolicies reads the desired tables of endpoints and policy sets at once.
func (t *Tables) DesiredPolicies() ([]DesiredEndpoint, []DesiredSet) {
	txn := t.db.ReadTxn()
	return collect(txn, t.rows.ToTable()), collect(txn, t.sets.ToTable())
}

// DesiredIPs reads the desired table of addresses.
func (t *Tables) DesiredIPs() []DesiredIP { return collect(t.db.ReadTxn(), t.ips.ToTable()) }

// DesiredNodes reads the desired table of nodes.
func (t *Tables) DesiredNodes() []DesiredNode { return collect(t.db.ReadTxn(), t.ends.ToTable()) }

// DesiredRulesets reads the desired table of rulesets.
func (t *Tables) DesiredRulesets() []DesiredRuleset {
	return collect(t.db.ReadTxn(), t.rulesets.ToTable())
}

// Synced tells whether the source has delivered its first whole state.
func (t *Tables) Synced() bool { return t.intentOf(t.db.ReadTxn()).Synced }
