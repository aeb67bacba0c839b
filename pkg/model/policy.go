// SPDX-License-Identifier: Apache-2.0

package model

import "net/netip"

// PolicyKey names a policy object.
type PolicyKey struct {
	Kind      string // NetworkPolicy, WeftNetworkPolicy, WeftClusterNetworkPolicy
	Namespace string // empty for cluster-wide kinds
	Name      string
}

// String is Kind namespace/name.
func (k PolicyKey) String() string {
	if k.Namespace == "" {
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Direction of traffic, seen from the endpoint that a policy selects. The
// numbers are those of enum weft_dir.
type Direction uint8

// Directions.
const (
	Egress  Direction = 0
	Ingress Direction = 1
)

// String is "egress" or "ingress".
func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Action is what a rule does; the numbers are those of enum weft_action.
type Action uint8

// Actions.
const (
	ActionNone  Action = 0
	ActionAllow Action = 1
	ActionDeny  Action = 2
	ActionAudit Action = 3
)

// String is the action's name in the API.
func (a Action) String() string {
	switch a {
	case ActionAllow:
		return "allow"
	case ActionDeny:
		return "deny"
	case ActionAudit:
		return "audit"
	}
	return "none"
}

// Policy is a policy object after conversion: the same form for every kind.
type Policy struct {
	Key     PolicyKey
	Spec    int      // which of the object's specs, from 0
	Subject Selector // endpoints it applies to
	// Isolate tells whether endpoints it selects deny by default what no rule
	// allows, by direction (index: Direction).
	Isolate [2]bool
	Rules   []Rule
	Source  string // file or API object it came from
}

// Rule is one rule of a policy: any of Peers on any of Ports.
type Rule struct {
	Direction Direction
	Action    Action      // ActionAllow or ActionDeny
	Name      string      // place in the object: ingress[0], egressDeny[2], ingress[0].toPorts[1]
	Peers     []Peer      // empty: no peer (matches nothing); AnyPeer for all
	Ports     []PortRange // empty: every protocol and port
	L7        *L7         // of an allow whose ports are TCP's: what it asks above that; nil: nothing
}

// Peer is one kind of peer; exactly one field is set.
type Peer struct {
	Any      bool         // everyone, known or not
	Selector *Selector    // cluster identities with these labels
	Entity   string       // reserved name: host, world, cluster, all, …
	CIDR     netip.Prefix // addresses outside the cluster …
	Except   []netip.Prefix
}

// PortRange is a range of ports, a named port, or an ICMP type.
type PortRange struct {
	Protocol uint8  // 0: TCP, UDP and SCTP for ports; never 0 with an ICMP type
	First    uint16 // 0 with Last 65535: every port. ICMP: type<<8 | code
	Last     uint16
	Name     string // named port; First and Last are then 0
}

// Operator of a selector's requirement.
type Operator uint8

// Operators, as in a Kubernetes label selector.
const (
	OpIn Operator = iota
	OpNotIn
	OpExists
	OpDoesNotExist
)

// Requirement is one condition of a selector.
type Requirement struct {
	Source   string // "any" matches every source
	Key      string
	Operator Operator
	Values   []string // sorted
}

// Selector matches label sets that fulfil all requirements; none matches all
// cluster identities (endpoints).
type Selector struct {
	Requirements []Requirement // sorted by key, source, operator
}

// RuleID numbers a rule node-wide so that the kernel can name it; 0 is none.
type RuleID uint32

// RuleRef tells what a RuleID stands for.
type RuleRef struct {
	Policy PolicyKey
	Rule   string // Rule.Name
	Action Action
}

// PolicyEntry is one row of a compiled policy set (struct weft_pol_key and
// weft_pol).
type PolicyEntry struct {
	Direction  Direction
	Peer       IdentityID // IdentityNone: any
	Protocol   uint8      // 0 with PortBits 0: every protocol
	Port       uint16     // host byte order; ICMP: type<<8 | code
	PortBits   uint8      // leading bits of Port that count, 0–16
	Action     Action
	Precedence uint32
	Ruleset    RulesetID
	Rule       RuleID
}

// SetHash identifies the content of a policy set; the zero value is the empty
// set.
type SetHash [16]byte

// PolicySet is a compiled policy: what one subject identity with one table of
// named ports may do. Equal sets are one row.
type PolicySet struct {
	Hash    SetHash
	Entries []PolicyEntry // sorted; the compiler has resolved overlaps
}
