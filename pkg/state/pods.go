// SPDX-License-Identifier: Apache-2.0

package state

import (
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
