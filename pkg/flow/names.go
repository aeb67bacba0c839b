// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Names is one immutable snapshot of what the node knows: the same one that the
// datapath was last given, so that an event is explained by what decided it. It
// is asked from one goroutine and what it returns is never changed afterwards.
type Names interface {
	// Workload is who has an address.
	Workload(addr netip.Addr) (Workload, bool)
	// Endpoint is the local endpoint in a slot.
	Endpoint(slot uint16) (Endpoint, bool)
	// Labels are those that an identity stands for.
	Labels(id model.IdentityID) (model.Labels, bool)
	// Rule is the policy rule that has a number.
	Rule(id model.RuleID) (model.RuleRef, bool)
	// Service is the service's port that has a number.
	Service(number uint32) (model.ServicePortKey, bool)
	// Frontend is the service's port at an address.
	Frontend(at model.FrontendKey) (model.ServicePortKey, bool)
}

// Workload is who stands behind an address.
type Workload struct {
	Pod      model.PodKey // zero: not a pod
	Identity model.IdentityID
	Slot     uint16 // of the local endpoint, or 0
	Endpoint uint32 // number of the local endpoint, or 0
	Owner    model.Workload
}

// Endpoint is a local workload.
type Endpoint struct {
	Workload
	// Isolated lists the policies for which it denies by default what no rule
	// allows, sorted; index: Direction.
	Isolated [2][]model.PolicyKey
}

// Maps is a Names made of plain maps, and of services, others and a list where a map of
// thousands would be made anew with every state. None of them may be changed once the
// value is in use; a new state is a new value.
type Maps struct {
	Workloads  map[netip.Addr]Workload
	Others     Others              // at addresses that Workloads does not have; nil: none
	Endpoints  map[uint16]Endpoint // by slot
	Identities map[model.IdentityID]model.Labels
	Cluster    []model.Identity // others, sorted by number
	Rules      map[model.RuleID]model.RuleRef
	Services   Services // nil: none
}

// Others say who has an address that no map says it of. They never change.
type Others interface {
	Workload(addr netip.Addr) (Workload, bool)
}

// Services are the names of services' ports, as Names has them. They never change.
type Services interface {
	Service(number uint32) (model.ServicePortKey, bool)
	Frontend(at model.FrontendKey) (model.ServicePortKey, bool)
}

// Workload implements Names.
func (m *Maps) Workload(addr netip.Addr) (Workload, bool) {
	w, ok := m.Workloads[addr]
	if !ok && m.Others != nil {
		return m.Others.Workload(addr)
	}
	return w, ok
}

// Endpoint implements Names.
func (m *Maps) Endpoint(slot uint16) (Endpoint, bool) {
	e, ok := m.Endpoints[slot]
	return e, ok
}

// Labels implements Names.
func (m *Maps) Labels(id model.IdentityID) (model.Labels, bool) {
	if ls, ok := m.Identities[id]; ok {
		return ls, true
	}
	i, ok := slices.BinarySearchFunc(m.Cluster, id, func(have model.Identity, id model.IdentityID) int {
		return cmp.Compare(have.ID, id)
	})
	if !ok {
		return nil, false
	}
	return m.Cluster[i].Labels, true
}

// Rule implements Names.
func (m *Maps) Rule(id model.RuleID) (model.RuleRef, bool) {
	r, ok := m.Rules[id]
	return r, ok
}

// Service implements Names.
func (m *Maps) Service(number uint32) (model.ServicePortKey, bool) {
	if m.Services == nil {
		return model.ServicePortKey{}, false
	}
	return m.Services.Service(number)
}

// Frontend implements Names.
func (m *Maps) Frontend(at model.FrontendKey) (model.ServicePortKey, bool) {
	if m.Services == nil {
		return model.ServicePortKey{}, false
	}
	return m.Services.Frontend(at)
}
