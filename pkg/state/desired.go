// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// DesiredEndpoint is an endpoint row that the kernel is to hold, and the
// revision that last changed it.
type DesiredEndpoint struct {
	model.EndpointRow
	Revision model.Revision
}

// DesiredSet is a policy set that the kernel is to hold.
type DesiredSet struct {
	model.PolicySet
	Revision model.Revision
}

// DesiredIP is an address that the kernel is to know.
type DesiredIP struct {
	model.IPRow
	Revision model.Revision
}

// DesiredNode is a node at the other end of the tunnel, or this one.
type DesiredNode struct {
	model.NodeRow
	Revision model.Revision
}

// DesiredRuleset is what the proxy is to enforce.
type DesiredRuleset struct {
	model.Ruleset
	Revision model.Revision
}

func newDesiredEndpoints(db *statedb.DB) (statedb.RWTable[DesiredEndpoint], error) {
	return newTable(db, "desired-endpoints", []string{"Slot", "Device", "Identity", "Set", "Revision"},
		func(r DesiredEndpoint) string { return fmt.Sprintf("%05d", r.Slot) },
		func(r DesiredEndpoint) []string {
			return []string{strconv.Itoa(int(r.Slot)), r.IfName, fmt.Sprint(r.Identity),
				hex.EncodeToString(r.Set[:]), fmt.Sprint(r.Revision)}
		})
}

func newDesiredSets(db *statedb.DB) (statedb.RWTable[DesiredSet], error) {
	return newTable(db, "desired-policy-sets", []string{"Set", "Entries", "Revision"},
		func(r DesiredSet) string { return hex.EncodeToString(r.Hash[:]) },
		func(r DesiredSet) []string {
			return []string{hex.EncodeToString(r.Hash[:]), strconv.Itoa(len(r.Entries)), fmt.Sprint(r.Revision)}
		})
}

func newDesiredIPs(db *statedb.DB) (statedb.RWTable[DesiredIP], error) {
	return newTable(db, "desired-addresses", []string{"Prefix", "Identity", "Slot", "Node", "Revision"},
		func(r DesiredIP) string { return r.Prefix.String() },
		func(r DesiredIP) []string {
			return []string{r.Prefix.String(), fmt.Sprint(r.Identity), strconv.Itoa(int(r.Slot)), strconv.Itoa(int(r.Node)), fmt.Sprint(r.Revision)}
		})
}

func newDesiredNodes(db *statedb.DB) (statedb.RWTable[DesiredNode], error) {
	return newTable(db, "desired-nodes", []string{"Number", "Outer", "IPv4", "IPv6", "Revision"},
		func(r DesiredNode) string { return fmt.Sprintf("%05d", r.Number) },
		func(r DesiredNode) []string {
			return []string{strconv.Itoa(int(r.Number)), r.Outer.String(), r.IPv4.String(), r.IPv6.String(), fmt.Sprint(r.Revision)}
		})
}

func newDesiredRulesets(db *statedb.DB) (statedb.RWTable[DesiredRuleset], error) {
	return newTable(db, "desired-rulesets", []string{"Number", "Rules", "Revision"},
		func(r DesiredRuleset) string { return fmt.Sprintf("%05d", r.ID) },
		func(r DesiredRuleset) []string {
			return []string{strconv.Itoa(int(r.ID)), strconv.Itoa(len(r.Rules)), fmt.Sprint(r.Revision)}
		})
}

// Desired is what the kernel is to hold of endpoints, policies and nodes, whole, and
// how what it is to know of addresses differs from before.
type Desired struct {
	Revision  model.Revision
	Endpoints []model.EndpointRow
	Sets      []model.PolicySet
	IPs       model.IPChanges
	Nodes     []model.NodeRow // none without a tunnel
	Rulesets  []model.Ruleset // that the proxy is to enforce, also those of old connections alone
}

// ApplyDesired writes the outcome of one compilation in one transaction; rows that
// did not change keep their revision.
func (t *Tables) ApplyDesired(d Desired) error {
	txn := t.db.WriteTxn(t.rows, t.sets, t.ips, t.ends, t.rulesets)
	defer txn.Abort()
	if err := replaceDesired(txn, t.rows, d.Endpoints, d.Revision,
		func(r DesiredEndpoint) uint16 { return r.Slot },
		func(r model.EndpointRow) uint16 { return r.Slot },
		func(a DesiredEndpoint, b model.EndpointRow) bool { return a.EndpointRow == b },
		func(r model.EndpointRow, rev model.Revision) DesiredEndpoint { return DesiredEndpoint{r, rev} },
	); err != nil {
		return fmt.Errorf("writing desired endpoints: %w", err)
	}
	if err := replaceDesired(txn, t.sets, d.Sets, d.Revision,
		func(r DesiredSet) model.SetHash { return r.Hash },
		func(r model.PolicySet) model.SetHash { return r.Hash },
		func(DesiredSet, model.PolicySet) bool { return true }, // named by its content
		func(r model.PolicySet, rev model.Revision) DesiredSet { return DesiredSet{r, rev} },
	); err != nil {
		return fmt.Errorf("writing desired policy sets: %w", err)
	}
	if err := change(txn, t.ips, d.IPs.Gone, d.IPs.Put,
		func(p netip.Prefix) DesiredIP { return DesiredIP{IPRow: model.IPRow{Prefix: p}} },
		func(r model.IPRow) DesiredIP { return DesiredIP{r, d.Revision} },
	); err != nil {
		return fmt.Errorf("writing desired addresses: %w", err)
	}
	if err := replaceDesired(txn, t.ends, d.Nodes, d.Revision,
		func(r DesiredNode) uint16 { return r.Number },
		func(r model.NodeRow) uint16 { return r.Number },
		func(a DesiredNode, b model.NodeRow) bool { return a.NodeRow == b },
		func(r model.NodeRow, rev model.Revision) DesiredNode { return DesiredNode{r, rev} },
	); err != nil {
		return fmt.Errorf("writing desired nodes: %w", err)
	}
	if err := replaceDesired(txn, t.rulesets, d.Rulesets, d.Revision,
		func(r DesiredRuleset) model.RulesetID { return r.ID },
		func(r model.Ruleset) model.RulesetID { return r.ID },
		func(a DesiredRuleset, b model.Ruleset) bool { return reflect.DeepEqual(a.Ruleset, b) },
		func(r model.Ruleset, rev model.Revision) DesiredRuleset { return DesiredRuleset{r, rev} },
	); err != nil {
		return fmt.Errorf("writing desired rulesets: %w", err)
	}
	txn.Commit()
	return nil
}

func replaceDesired[D any, R any, K comparable](
	txn statedb.WriteTxn, table statedb.RWTable[D], want []R, rev model.Revision,
	keyD func(D) K, keyR func(R) K, equal func(D, R) bool, wrap func(R, model.Revision) D,
) error {
	have := make(map[K]D, table.NumObjects(txn))
	for row := range table.All(txn) {
		have[keyD(row)] = row
	}
	for _, row := range want {
		k := keyR(row)
		old, ok := have[k]
		delete(have, k)
		if ok && equal(old, row) {
			continue
		}
		if _, _, err := table.Insert(txn, wrap(row, rev)); err != nil {
			return err
		}
	}
	for _, row := range have {
		if _, _, err := table.Delete(txn, row); err != nil {
			return err
		}
	}
	return nil
}
