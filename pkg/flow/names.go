// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// Names is one immutable snapshot of what the node knows: the same one that the
// datapath was last given, so that an event is explained by what decided it. It
// is asked from one goroutine and what it returns is never changed afterwards.
type Names interface {
	// Workload is who has an address.
	Workload(addr netip.Addr) (Workload, bool)
	// Labels are those that an identity stands for.
	Labels(id model.IdentityID) (model.Labels, bool)
	// Rule is the policy rule that has a number.
	Rule(id model.RuleID) (model.RuleRef, bool)
	// Isolating lists the policies for which the local endpoint in a slot
	// denies by default in a direction, sorted.
	Isolating(slot uint16, dir model.Direction) []model.PolicyKey
}

// Workload is who stands behind an address.
type Workload struct {
	Pod      model.PodKey // zero: not a pod
	Identity model.IdentityID
	Slot     uint16 // of the local endpoint, or 0
	Endpoint uint32 // number of the local endpoint, or 0
}

// Isolation names one direction of a local endpoint.
type Isolation struct {
	Slot      uint16
	Direction model.Direction
}

// Maps is a Names made of plain maps. None of them may be changed once the value
// is in use; a new state is a new value.
type Maps struct {
	Workloads  map[netip.Addr]Workload
	Identities map[model.IdentityID]model.Labels
	Rules      map[model.RuleID]model.RuleRef
	Isolated   map[Isolation][]model.PolicyKey
}

// Workload implements Names.
func (m *Maps) Workload(addr netip.Addr) (Workload, bool) {
	w, ok := m.Workloads[addr]
	return w, ok
}

// Labels implements Names.
func (m *Maps) Labels(id model.IdentityID) (model.Labels, bool) {
	ls, ok := m.Identities[id]
	return ls, ok
}

// Rule implements Names.
func (m *Maps) Rule(id model.RuleID) (model.RuleRef, bool) {
	r, ok := m.Rules[id]
	return r, ok
}

// Isolating implements Names.
func (m *Maps) Isolating(slot uint16, dir model.Direction) []model.PolicyKey {
	return m.Isolated[Isolation{Slot: slot, Direction: dir}]
}
