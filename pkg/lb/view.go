// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
)

// Algorithm says how a backend is chosen.
type Algorithm string

// Algorithms.
const (
	Random Algorithm = "random"
	// Table chooses by a hash of the client from a Maglev table.
	Table Algorithm = "maglev"
)

// State says what a backend gets.
type State string

// States of backends.
const (
	Ready       State = "ready"       // new connections
	Terminating State = "terminating" // nothing new; what is open goes on
	NotReady    State = "not ready"   // nothing
)

// Service is a service with what was made of it.
type Service struct {
	model.Service
	Frontends []Frontend
	Reason    string // why none of its front ends is served; empty: one is
}

// Frontend is one address and port of a service.
type Frontend struct {
	model.FrontendKey
	PortName  string
	Number    uint32 // of the service's port in this family
	Algorithm Algorithm
	Backends  []Backend // by address and port
	Reason    string    // why it is not served, or empty
	taken     bool      // another service, or another port of this one, has the address
}

// Backend is one of those behind a front end.
type Backend struct {
	ID    uint32
	Addr  netip.AddrPort
	State State
	Pod   model.PodKey // zero: not a pod
	Node  string
}

// Active counts the backends that take new connections.
func (f Frontend) Active() int {
	n := 0
	for _, b := range f.Backends {
		if b.State == Ready {
			n++
		}
	}
	return n
}
