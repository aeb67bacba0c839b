// SPDX-License-Identifier: Apache-2.0

package model

import (
	"net/netip"
	"time"
)

// FlowType tells what a flow event reports; the numbers are those of enum
// weft_flow_type.
type FlowType uint8

// Types of flow events.
const (
	FlowNew   FlowType = 1
	FlowDrop  FlowType = 2
	FlowEnd   FlowType = 3
	FlowAlive FlowType = 4
	FlowAudit FlowType = 5
	// FlowRequest is the proxy's, not the kernel's: a request, or a connection that
	// is no HTTP, that has ended there.
	FlowRequest FlowType = 64
)

// Flow is one event about a flow. In each pair [0] is the initiator, [1] the
// responder; for a drop the sender and the receiver.
type Flow struct {
	Time      time.Time
	Type      FlowType
	Reason    uint8 // enum weft_reason
	Direction Direction
	Protocol  uint8
	TCPFlags  uint8
	ICMPType  uint8
	ICMPCode  uint8
	Peers     [2]FlowPeer
	Service   ServicePortKey // that the initiator asked for; zero: none, or not known
	Rules     [2][]RuleRef   // [0] egress, [1] ingress; for a default deny the isolating policies
	Packets   [2]uint64
	Bytes     [2]uint64
	Count     uint32
	Age       time.Duration
	Request   *Request  // of a FlowRequest
	Ruleset   RulesetID // that the proxy enforces on the connection; 0: it has not
	Leg       Leg
}

// Leg is which part of a proxied connection a flow is; the numbers are those of enum
// weft_leg.
type Leg uint8

// Legs.
const (
	LegNone       Leg = 0
	LegDownstream Leg = 1 // from the client to the proxy
	LegUpstream   Leg = 2 // from the proxy to the server
	LegBetween    Leg = 3 // from the proxy to itself: another ruleset is to be passed
)

// Outcome is what became of a request.
type Outcome string

// Outcomes.
const (
	RequestAllowed Outcome = "allow"
	RequestDenied  Outcome = "deny"  // no rule allows it
	RequestAudited Outcome = "audit" // no rule allows it; it passed, as the policies only audit
	RequestOpen    Outcome = "open"  // its ruleset asks for nothing any more
	// RequestFaulty: no rule allows it, and one that might have has a fault.
	RequestFaulty Outcome = "faulty"
)

// Request is what the proxy tells of a request, or of a connection that is no HTTP.
// Texts are the client's and may hold anything.
type Request struct {
	Ruleset    RulesetID
	Outcome    Outcome // another one than the above, or none: refused for what it is
	Protocol   string  // HTTP/1.1, HTTP/2, gRPC, TLS
	Method     string
	Path       string   // without the query
	Host       string   // or the name that a TLS client asked for
	Status     uint32   // of HTTP; 0: there was no answer
	GRPCStatus int32    // -1: not gRPC, or none
	Mismatch   []string // headers that had not the value that was wanted
	Detail     string   // why there was no answer, in the proxy's words
}

// FlowPeer is one side of a flow.
type FlowPeer struct {
	Addr     netip.Addr
	Port     uint16
	Identity IdentityID
	Labels   Labels
	Pod      PodKey // zero: not a known pod
	Endpoint uint32 // local endpoint, or 0
	Workload Workload
}
