// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/lb"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
)

// View is one compilation in the terms of those who ask about it. It is never
// changed once it is published.
type View struct {
	Revision  model.Revision
	Names     *flow.Maps // what flow events are explained with
	Endpoints []EndpointView
	Policies  []PolicyView
	Services  *lb.Book
	HostPorts []lb.Port // of this node, that pods have or want
	Unmanaged []model.NodeEndpoint
	Rulesets  rulesets.Book
	Refused   int // rulesets for which there is no number
	cluster   []model.Identity
	prefixes  prefixIDs
	using     map[model.IdentityID]int // local endpoints by identity
}

// withServices enters the services, in names of its own: those of an earlier view
// are in use.
func (v *View) withServices(b *lb.Book) {
	names := *v.Names
	names.Services = b
	v.Names, v.Services = &names, b
}

// EndpointView is a local endpoint with what the compilation made of it.
type EndpointView struct {
	model.Endpoint
	Identity model.Identity
	Isolated [2]bool // by model.Direction
	Entries  []model.PolicyEntry
	Ports    []model.NamedPort // of the pod
	Owner    model.Workload    // that the pod belongs to
}

// PolicyView is a policy and the local endpoints that it selects.
type PolicyView struct {
	model.Policy
	Endpoints []uint32
	Message   string   // what about it cannot work; empty: nothing
	absent    []string // keys that Message names
}

// IdentityView is an identity known on this node.
type IdentityView struct {
	model.Identity
	Kind      string // reserved, cluster or cidr
	Endpoints int    // local endpoints that have it
}
