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
