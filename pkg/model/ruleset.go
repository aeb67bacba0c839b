// SPDX-License-Identifier: Apache-2.0

package model

import "slices"

// RulesetID numbers a ruleset on this node; 0 is none: the kernel decides alone.
type RulesetID uint16

// MaxRulesets is how many rulesets a node may have: each has a listener, and the
// listeners of two proxies side by side have a port each.
const MaxRulesets = 1000

// The ports of the proxy's listeners, outside of what kernels give to clients by
// default (net.ipv4.ip_local_port_range begins at 32768): two blocks, for the proxy
// that runs and the one that takes over.
const (
	ProxyBlocks    = 2
	FirstProxyPort = 14000
	LastProxyPort  = FirstProxyPort + ProxyBlocks*MaxRulesets - 1
)

// ProxyPort is the port of a ruleset's listener in a block, 0 or 1.
func ProxyPort(block uint8, id RulesetID) uint16 {
	return FirstProxyPort + uint16(block)*MaxRulesets + uint16(id) - 1
}

// proxyMark is what the mark of a packet of the proxy's own has in the bits of
// bpf/lib/config.h.
const proxyMark = 0x800

// ProxyMark is the mark of connections that the proxy makes to servers: they have
// passed the ruleset, which is all that it says.
func ProxyMark(id RulesetID) uint32 { return proxyMark | uint32(id)<<16 }

// L7 is what a rule asks of the connections that it allows, above TCP. At most one
// of its lists has rules. Nil, where it is pointed to: nothing.
type L7 struct {
	HTTP        []HTTPRule
	GRPC        []GRPCRule
	ServerNames []string // TLS: what the client may name (SNI, RFC 6066), with * for one label
	Audit       bool     // what these do not allow passes, and is reported
}

// ChangesHeaders tells whether what is let pass may have other headers afterwards.
func (l L7) ChangesHeaders() bool { return slices.ContainsFunc(l.HTTP, HTTPRule.ChangesHeaders) }

// HTTPRule matches requests; what is empty matches everything. The expressions match
// the whole of what they are for, in RE2's syntax.
type HTTPRule struct {
	Method  string // expression
	Path    string // expression, for the normalised path without the query
	Host    string // expression, for the authority without the port
	Headers []HeaderMatch
}

// ChangesHeaders is as of L7.
func (h HTTPRule) ChangesHeaders() bool {
	return slices.ContainsFunc(h.Headers, func(m HeaderMatch) bool { return m.Mismatch.changes() })
}

// GRPCRule matches calls; an empty field matches everything.
type GRPCRule struct {
	Service string // with its package: helloworld.Greeter
	Method  string
}

// Mismatch is what becomes of a request that has not the value of a HeaderMatch.
type Mismatch uint8

// Mismatches; but for the first the request passes.
const (
	MismatchDeny    Mismatch = iota // the rule does not match
	MismatchLog                     // recorded only
	MismatchAdd                     // the value is added to what there is
	MismatchDelete                  // the header is removed
	MismatchReplace                 // the header gets this value alone
)

// changes tells whether the header is another one afterwards.
func (m Mismatch) changes() bool {
	return m == MismatchAdd || m == MismatchDelete || m == MismatchReplace
}

// HeaderMatch asks for a header, and for its value unless that is empty.
type HeaderMatch struct {
	Name     string // lower case
	Value    string
	Mismatch Mismatch
}

// Ruleset is what the proxy has to enforce on the connections to which policy
// entries give its number. It keeps the number while it has the same origins, so
// that a changed rule reaches connections that are open.
type Ruleset struct {
	ID    RulesetID
	Rules []RulesetRule // sorted by policy and rule
	// Audit lets pass what no rule allows, and reports it.
	Audit bool
	// Open lets everything pass: of a ruleset that no entry names any more and that
	// connections may still have.
	Open bool
	// Then is what must be passed after it: of a pair, which has two rulesets in force
	// on connections that both are for. Its own Then is nil.
	Then *Ruleset `json:",omitempty"`
}

// AllRules are its rules, and of a pair those of both.
func (r Ruleset) AllRules() []RulesetRule {
	if r.Then == nil {
		return r.Rules
	}
	return slices.Concat(r.Rules, r.Then.Rules)
}

// RulesetRule is the part of one rule of one policy.
type RulesetRule struct {
	Policy PolicyKey
	Name   string // place in the policy: ingress[0].toPorts[1]
	L7     L7
	// Direction in which the policy has it.
	Direction Direction
}

// Rulesets are all rulesets of a node at a revision.
type Rulesets struct {
	Revision Revision
	List     []Ruleset // sorted by number
}

// RulesetLinks is what the kernel is to know of how rulesets belong together.
type RulesetLinks struct {
	// As are rulesets that the connections of others satisfy, too: open ones may stay
	// when policy asks for that instead. Before is the same for as long as policy may
	// still be that of before.
	As, Before map[RulesetID]RulesetID
	Pairs      map[RulesetID]RulesetPair
}

// RulesetPair is two rulesets that one pass through the proxy enforces.
type RulesetPair struct {
	First, Then RulesetID // that of egress, that of ingress
	Begin       bool      // connections that begin get it
}

// Proxy is what the kernel is to know of the node's proxies; zero: there is none.
type Proxy struct {
	// Cgroups are folders on cgroup2, by block: of the group that all processes of the
	// proxy are in whose listeners have the ports of the block. Where there is none the
	// kernel goes by the one that it knows.
	Cgroups [ProxyBlocks]string
	Prefer  uint8 // block of the listeners that new connections go to
	Active  bool  // rulesets are in force, or connections have some
}
