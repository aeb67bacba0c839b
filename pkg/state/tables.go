// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"strconv"

	"github.com/cilium/statedb"
	"github.com/cilium/statedb/index"

	"github.com/weftmesh/weft/pkg/model"
)

// Tables is the agent's state. Make it with New; Start and Stop bound the life
// of the database's own clean-up.
type Tables struct {
	db *statedb.DB

	intent     statedb.RWTable[intent]
	pods       statedb.RWTable[model.Pod]
	namespaces statedb.RWTable[model.Namespace]
	services   statedb.RWTable[model.Service]
	slices     statedb.RWTable[model.EndpointSlice]
	policies   statedb.RWTable[model.Policy]
	endpoints  statedb.RWTable[model.Endpoint]
	identities statedb.RWTable[model.Identity]
	nodes      statedb.RWTable[model.ClusterNode]
	nodeSlices statedb.RWTable[model.NodeSlice]
	hostAddrs  statedb.RWTable[hostAddr]

	listed listings

	rows statedb.RWTable[DesiredEndpoint]
	sets statedb.RWTable[DesiredSet]
	ips  statedb.RWTable[DesiredIP]
	ends statedb.RWTable[DesiredNode]

	rulesets statedb.RWTable[DesiredRuleset]

	frontends statedb.RWTable[DesiredFrontend]
	slots     statedb.RWTable[DesiredSlots]
	backends  statedb.RWTable[DesiredBackend]
}

// intent is the single row that counts changes of the input tables.
type intent struct {
	Revision model.Revision
	// Sources tells whether the source has delivered its first whole state:
	// before that nothing may be pruned.
	Synced bool
}

// New makes the empty tables.
func New() (*Tables, error) {
	t := &Tables{db: statedb.New()}
	var err error
	add := func(e error) {
		if err == nil && e != nil {
			err = fmt.Errorf("making state tables: %w", e)
		}
	}
	var e error
	t.intent, e = newTable(t.db, "intent", []string{"Revision", "Synced"},
		func(intent) string { return "intent" },
		func(i intent) []string {
			return []string{strconv.FormatUint(uint64(i.Revision), 10), strconv.FormatBool(i.Synced)}
		})
	add(e)
	t.pods, e = newPods(t.db)
	add(e)
	t.namespaces, e = newNamespaces(t.db)
	add(e)
	t.services, e = newServices(t.db)
	add(e)
	t.slices, e = newSlices(t.db)
	add(e)
	t.policies, e = newPolicies(t.db)
	add(e)
	t.endpoints, e = newEndpoints(t.db)
	add(e)
	t.identities, e = newIdentities(t.db)
	add(e)
	t.nodes, e = newNodes(t.db)
	add(e)
	t.nodeSlices, e = newNodeSlices(t.db)
	add(e)
	t.hostAddrs, e = newHostAddrs(t.db)
	add(e)
	t.rows, e = newDesiredEndpoints(t.db)
	add(e)
	t.sets, e = newDesiredSets(t.db)
	add(e)
	t.ips, e = newDesiredIPs(t.db)
	add(e)
	t.ends, e = newDesiredNodes(t.db)
	add(e)
	t.rulesets, e = newDesiredRulesets(t.db)
	add(e)
	add(t.addServiceTables())
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Start begins the database's own clean-up of deleted rows.
func (t *Tables) Start() error { return t.db.Start() }

// Stop ends it.
func (t *Tables) Stop() error { return t.db.Stop() }

// newTable makes a table whose rows are found by one string key.
func newTable[T any](
	db *statedb.DB, name string, header []string, key func(T) string, row func(T) []string,
) (statedb.RWTable[T], error) {
	return statedb.NewTableAny(db, name, func() []string { return header }, row, primary(key))
}

// primary is the index of a table whose rows are found by one string key.
func primary[T any](key func(T) string) statedb.Index[T, string] {
	return statedb.Index[T, string]{
		Name:       "key",
		FromObject: func(obj T) index.KeySet { return index.NewKeySet(index.String(key(obj))) },
		FromKey:    index.String,
		FromString: index.FromString,
		Unique:     true,
	}
}

// edit runs one write transaction over the given tables and, if change reports
// that it changed anything, moves the intent's revision and commits.
func (t *Tables) edit(tables []statedb.TableMeta, change func(statedb.WriteTxn) (bool, error)) (model.Revision, error) {
	txn := t.db.WriteTxn(append(tables, t.intent)...)
	defer txn.Abort() // no effect after Commit
	now := t.intentOf(txn)
	changed, err := change(txn)
	if err != nil {
		return now.Revision, err
	}
	if !changed {
		return now.Revision, nil
	}
	now = t.intentOf(txn)
	now.Revision++
	if _, _, err := t.intent.Insert(txn, now); err != nil {
		return 0, fmt.Errorf("moving the revision: %w", err)
	}
	txn.Commit()
	return now.Revision, nil
}

func (t *Tables) intentOf(txn statedb.ReadTxn) intent {
	for i := range t.intent.All(txn) {
		return i
	}
	return intent{}
}
