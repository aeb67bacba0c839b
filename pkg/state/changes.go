// SPDX-License-Identifier: Apache-2.0

package state

import (
	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

// Changes is what became of single objects of a source, as a watch tells it. An
// object that is in both Gone and Put is there.
type Changes struct {
	// Put are objects that are new or have changed, each whole: of a policy every
	// spec, in its order.
	Put Source
	// Identities are new ones, where the source says which there are.
	Identities []model.Identity
	// Gone are objects that are there no more; of one that never was, nothing
	// becomes.
	Gone Gone
	// Synced tells that with this the source has delivered its first whole state.
	Synced bool
}

// Gone names objects.
type Gone struct {
	Pods           []model.PodKey
	Namespaces     []string
	Services       []model.ServiceKey
	EndpointSlices []model.EndpointSliceKey
	Policies       []model.PolicyKey
	Nodes          []string
	NodeSlices     []string
	Identities     []model.IdentityID
}

// Apply enters what changed in one transaction; all else the source said
// stays. The outcome is that of ReplaceSource with all that is there now, also
// for pods that are gone but attached. A source that keeps no account of what it
// said hands on its first whole state, and each after a watch that may have missed
// something, by ReplaceSource.
func (t *Tables) Apply(c Changes) (model.Revision, error) {
	return t.edit(t.sourceTables(), func(txn statedb.WriteTxn) (changed bool, err error) {
		for _, step := range []func() (bool, error){
			func() (bool, error) { return t.removePods(txn, c.Gone.Pods) },
			func() (bool, error) {
				return removeAll(txn, t.namespaces, c.Gone.Namespaces, func(k string) model.Namespace { return model.Namespace{Name: k} })
			},
			func() (bool, error) {
				return removeAll(txn, t.services, c.Gone.Services, func(k model.ServiceKey) model.Service { return model.Service{ServiceKey: k} })
			},
			func() (bool, error) {
				return removeAll(txn, t.slices, c.Gone.EndpointSlices,
					func(k model.EndpointSliceKey) model.EndpointSlice { return model.EndpointSlice{EndpointSliceKey: k} })
			},
			func() (bool, error) { return t.removeSpecs(txn, c.Gone.Policies, nil) },
			func() (bool, error) {
				return removeAll(txn, t.nodes, c.Gone.Nodes, func(k string) model.ClusterNode { return model.ClusterNode{Name: k} })
			},
			func() (bool, error) {
				return removeAll(txn, t.nodeSlices, c.Gone.NodeSlices, func(k string) model.NodeSlice { return model.NodeSlice{Name: k} })
			},
			func() (bool, error) {
				return removeAll(txn, t.identities, c.Gone.Identities, func(k model.IdentityID) model.Identity { return model.Identity{ID: k} })
			},
			func() (bool, error) { return putAll(txn, t.nodes, c.Put.Nodes, nodeKey) },
			func() (bool, error) { return putAll(txn, t.nodeSlices, c.Put.NodeSlices, nodeSliceKey) },
			func() (bool, error) { return putAll(txn, t.identities, c.Identities, identityKey) },
			func() (bool, error) { return putAll(txn, t.pods, t.withoutOwnAddrs(txn, c.Put.Pods), podKey) },
			func() (bool, error) { return putAll(txn, t.namespaces, c.Put.Namespaces, namespaceKey) },
			func() (bool, error) { return putAll(txn, t.services, c.Put.Services, serviceKey) },
			func() (bool, error) { return putAll(txn, t.slices, c.Put.EndpointSlices, sliceKey) },
			func() (bool, error) { return t.putPolicies(txn, c.Put.Policies) },
		} {
			did, err := step()
			if err != nil {
				return false, err
			}
			changed = changed || did
		}
		if !c.Synced {
			return changed, nil
		}
		first, err := t.markSynced(txn)
		return changed || first, err
	})
}

// removePods removes pods, of which those that are attached stay as orphans.
func (t *Tables) removePods(txn statedb.WriteTxn, gone []model.PodKey) (changed bool, err error) {
	if len(gone) == 0 {
		return false, nil
	}
	attached := t.attachedPods(txn)
	for _, key := range gone {
		pod, _, had := t.pods.Get(txn, primary(podKey).QueryFromObject(model.Pod{PodKey: key}))
		switch {
		case !had || attached[key] && pod.Orphan:
			continue
		case attached[key]:
			pod.Orphan = true
			_, _, err = t.pods.Insert(txn, pod)
		default:
			_, _, err = t.pods.Delete(txn, pod)
		}
		if err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// putPolicies writes policies, and removes the specs that they had beyond.
func (t *Tables) putPolicies(txn statedb.WriteTxn, policies []model.Policy) (bool, error) {
	specs := make(map[model.PolicyKey]int, len(policies))
	var keys []model.PolicyKey
	for _, p := range policies {
		if specs[p.Key]++; specs[p.Key] == 1 {
			keys = append(keys, p.Key)
		}
	}
	changed, err := putAll(txn, t.policies, numbered(policies), policyKey)
	if err != nil {
		return changed, err
	}
	fewer, err := t.removeSpecs(txn, keys, specs)
	return changed || fewer, err
}

// removeSpecs removes the specs of policies from a number on: specs of one object
// are numbered without a gap.
func (t *Tables) removeSpecs(txn statedb.WriteTxn, keys []model.PolicyKey, from map[model.PolicyKey]int) (changed bool, err error) {
	for _, key := range keys {
		for spec := from[key]; ; spec++ {
			_, had, err := t.policies.Delete(txn, model.Policy{Key: key, Spec: spec})
			if err != nil {
				return changed, err
			}
			if !had {
				break
			}
			changed = true
		}
	}
	return changed, nil
}
