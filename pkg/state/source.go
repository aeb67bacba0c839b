// SPDX-License-Identifier: Apache-2.0

package state

import (
	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// Source is everything a source of intent (manifest folder, Kubernetes) says.
type Source struct {
	Pods           []model.Pod
	Namespaces     []model.Namespace
	Services       []model.Service
	EndpointSlices []model.EndpointSlice
	Policies       []model.Policy
	Nodes          []model.ClusterNode
	NodeSlices     []model.NodeSlice
}

// ReplaceSource makes the source's tables hold exactly what it says now. A pod
// that is gone from the source but still attached stays, marked as an orphan,
// until its attachment goes: a workload that still runs keeps its identity.
func (t *Tables) ReplaceSource(s Source) (model.Revision, error) {
	return t.edit(t.sourceTables(), func(txn statedb.WriteTxn) (bool, error) {
		var changes []bool
		note := func(changed bool, err error) error {
			changes = append(changes, changed)
			return err
		}
		if err := note(t.replacePods(txn, s.Pods)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.namespaces, s.Namespaces, namespaceKey)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.services, s.Services, serviceKey)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.slices, s.EndpointSlices, sliceKey)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.policies, numbered(s.Policies), policyKey)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.nodes, s.Nodes, nodeKey)); err != nil {
			return false, err
		}
		if err := note(replaceAll(txn, t.nodeSlices, s.NodeSlices, nodeSliceKey)); err != nil {
			return false, err
		}
		if err := note(t.markSynced(txn)); err != nil {
			return false, err
		}
		for _, c := range changes {
			if c {
				return true, nil
			}
		}
		return false, nil
	})
}

// sourceTables are those that a source fills, and what they depend on.
func (t *Tables) sourceTables() []statedb.TableMeta {
	return []statedb.TableMeta{t.pods, t.namespaces, t.services, t.slices, t.policies, t.nodes, t.nodeSlices, t.identities, t.endpoints}
}

func (t *Tables) replacePods(txn statedb.WriteTxn, want []model.Pod) (bool, error) {
	wanted := make(map[model.PodKey]bool, len(want))
	for _, p := range want {
		wanted[p.PodKey] = true
	}
	attached := t.attachedPods(txn)
	all := t.withoutOwnAddrs(txn, want)
	for pod := range t.pods.All(txn) {
		if wanted[pod.PodKey] || !attached[pod.PodKey] {
			continue
		}
		pod.Orphan = true
		all = append(all[:len(all):len(all)], pod)
	}
	return replaceAll(txn, t.pods, all, podKey)
}

func (t *Tables) markSynced(txn statedb.WriteTxn) (bool, error) {
	now := t.intentOf(txn)
	if now.Synced {
		return false, nil
	}
	now.Synced = true
	_, _, err := t.intent.Insert(txn, now)
	return true, err
}

// numbered tells the specs of one object apart by their order.
func numbered(policies []model.Policy) []model.Policy {
	out := make([]model.Policy, len(policies))
	next := make(map[model.PolicyKey]int, len(policies))
	for i, p := range policies {
		p.Spec = next[p.Key]
		next[p.Key]++
		out[i] = p
	}
	return out
}
