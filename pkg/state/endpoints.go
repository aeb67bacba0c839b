// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/cilium/statedb"

	"github.com/weftmesh/weft/pkg/model"
)

func newEndpoints(db *statedb.DB) (statedb.RWTable[model.Endpoint], error) {
	return newTable(db, "endpoints", []string{"ID", "Pod", "Device", "IPv4", "IPv6", "State"}, endpointKey,
		func(e model.Endpoint) []string {
			return []string{strconv.FormatUint(uint64(e.ID), 10), e.Pod.String(), e.HostIfName,
				e.IPv4.String(), e.IPv6.String(), string(e.State)}
		})
}

func endpointKey(e model.Endpoint) string { return fmt.Sprintf("%010d", e.ID) }

// UpsertEndpoint records an attachment.
func (t *Tables) UpsertEndpoint(e model.Endpoint) (model.Revision, error) {
	return t.edit([]statedb.TableMeta{t.endpoints}, func(txn statedb.WriteTxn) (bool, error) {
		old, had, err := t.endpoints.Insert(txn, e)
		return !had || !reflect.DeepEqual(old, e), err
	})
}

// DeleteEndpoint forgets an attachment, and the pod behind it if its source has
// already dropped it.
func (t *Tables) DeleteEndpoint(id uint32) (model.Revision, error) {
	tables := []statedb.TableMeta{t.endpoints, t.pods}
	return t.edit(tables, func(txn statedb.WriteTxn) (bool, error) {
		old, had, err := t.endpoints.Delete(txn, model.Endpoint{ID: id})
		if err != nil || !had {
			return false, err
		}
		pod, _, known := t.pods.Get(txn, primary(podKey).QueryFromObject(model.Pod{PodKey: old.Pod}))
		if known && pod.Orphan && !t.attached(txn, old.Pod) {
			_, _, err = t.pods.Delete(txn, pod)
		}
		return true, err
	})
}

// Endpoints lists the attachments by number.
func (t *Tables) Endpoints() []model.Endpoint { return collect(t.db.ReadTxn(), t.endpoints.ToTable()) }

// withoutOwnAddrs leaves out the addresses of pods that are attached: those are the
// endpoint's to tell, and a pod that is detached has none left.
func (t *Tables) withoutOwnAddrs(txn statedb.ReadTxn, pods []model.Pod) []model.Pod {
	if !slices.ContainsFunc(pods, func(p model.Pod) bool { return len(p.Addrs) > 0 }) {
		return pods
	}
	attached, out := t.attachedPods(txn), slices.Clone(pods)
	for i := range out {
		if attached[out[i].PodKey] {
			out[i].Addrs = nil
		}
	}
	return out
}

func (t *Tables) attached(txn statedb.ReadTxn, pod model.PodKey) bool {
	for e := range t.endpoints.All(txn) {
		if e.Pod == pod {
			return true
		}
	}
	return false
}

func (t *Tables) attachedPods(txn statedb.ReadTxn) map[model.PodKey]bool {
	out := make(map[model.PodKey]bool, t.endpoints.NumObjects(txn))
	for e := range t.endpoints.All(txn) {
		out[e.Pod] = true
	}
	return out
}
