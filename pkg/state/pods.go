// SPDX-License-Identifier: Apache-2.0

package state

import (
	"reflect"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newPods(db *statedb.DB) (statedb.RWTable[model.Pod], error) {
	return newTable(db, "pods", []string{"Pod", "Service account", "Source"}, podKey,
		func(p model.Pod) []string { return []string{p.String(), p.ServiceAccount, p.Source} })
}

func podKey(p model.Pod) string { return p.PodKey.String() }

// Pod finds a pod.
func (t *Tables) Pod(key model.PodKey) (model.Pod, bool) {
	same := primary(podKey).QueryFromObject(model.Pod{PodKey: key})
	pod, _, ok := t.pods.Get(t.db.ReadTxn(), same)
	return pod, ok
}

// WatchPod finds a pod; changed closes when it has come, changed or gone.
func (t *Tables) WatchPod(key model.PodKey) (pod model.Pod, known bool, changed <-chan struct{}) {
	same := primary(podKey).QueryFromObject(model.Pod{PodKey: key})
	pod, _, changed, known = t.pods.GetWatch(t.db.ReadTxn(), same)
	return pod, known, changed
}

// AddOrphan adds a pod that is attached, and that the source does not declare or
// has not declared yet. A pod that is declared stays as it is; among orphans of
// one name, the one added last counts.
func (t *Tables) AddOrphan(pod model.Pod) (model.Revision, error) {
	pod.Orphan = true
	return t.edit([]statedb.TableMeta{t.pods, t.endpoints}, func(txn statedb.WriteTxn) (bool, error) {
		old, _, had := t.pods.Get(txn, primary(podKey).QueryFromObject(pod))
		if had && (!old.Orphan || reflect.DeepEqual(old, pod)) || !t.attached(txn, pod.PodKey) {
			return false, nil
		}
		_, _, err := t.pods.Insert(txn, pod)
		return true, err
	})
}
