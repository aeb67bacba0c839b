// SPDX-License-Identifier: Apache-2.0

package model

import "strconv"

// Reason tells why a packet went no further; the numbers are those of enum
// weft_reason and of the API's DropReason, append only.
type Reason uint8

// The reasons that other packages branch on.
const (
	ReasonPassed        Reason = 0
	ReasonPolicyDeny    Reason = 13
	ReasonPolicyDefault Reason = 14
	ReasonNoBackend     Reason = 20
)

// ReasonText is how a reason is written: its name in metrics, in the API and in
// JSON, and a clause for people that says what was wrong with the packet.
type ReasonText struct {
	Name     string
	Sentence string
}

// ReasonTexts lists every reason that the kernel programs know, by number.
func ReasonTexts() []ReasonText {
	return []ReasonText{
		{"NONE", "let pass"},
		{"NO_ENDPOINT", "the device belongs to no endpoint that the agent has set up"},
		{"MALFORMED", "a header is truncated or inconsistent"},
		{"UNSUPPORTED_L3", "neither IPv4, IPv6 nor ARP, or tagged with a VLAN"},
		{"UNSUPPORTED_L4", "a protocol that is not routed for pods"},
		{"SPOOFED_MAC", "the source MAC address is not the pod's own"},
		{"SPOOFED_IPV4", "the source IPv4 address is not the pod's own"},
		{"SPOOFED_IPV6", "the source IPv6 address is not the pod's own"},
		{"SPOOFED_ARP", "the ARP message speaks for an address that is not the pod's own"},
		{"SPOOFED_ND", "the neighbour discovery message speaks for an address that is not the pod's own"},
		{"EXT_HEADERS", "IPv6 extension headers that are forbidden or too many"},
		{"FRAGMENT", "a later fragment whose first one was not seen"},
		{"ICMP_NO_FLOW", "an ICMP error about a flow that is not known"},
		{"POLICY_DENY", "denied by a policy rule"},
		{"POLICY_DEFAULT", "denied by default: the endpoint is isolated and no rule allows it"},
		{"CT_FULL", "no room in the connection table"},
		{"MULTICAST", "multicast or broadcast from a pod"},
		{"REDIRECT", "delivery to the local pod failed"},
		{"SNAT_PORTS", "no port of the node is left for the flow on its way out"},
		{"NAT_FULL", "no room for a translated flow, or no memory to write its packet"},
		{"NO_BACKEND", "nobody serves what the pod called; it was told so"},
		{"TUNNEL_PEER", "a frame of the tunnel that came from no node's address, or not by an uplink"},
		{"TUNNEL_SOURCE", "a packet in the tunnel whose source or identity is not the sending node's to use"},
		{"TUNNEL_TARGET", "a packet in the tunnel for an address that is not of the node it came to, or of no node"},
		{"TUNNEL_PORT", "spoke to the port of the tunnel between nodes, which no pod or process may"},
		{"BARE_POD", "a pod's source address on a packet from outside that did not come through the tunnel"},
		{"PROXY_NOT_READY", "the proxy does not listen for the ruleset; who called was told so"},
		{"NEEDS_PROXY", "the connection was open before a rule needed the proxy for it; who sent was told so"},
		{"PROXY_CLASH", "the proxy and its client chose the same port for a connection to the server; who came second was told so"},
	}
}

// Text is the reason's name and sentence. A number that is not known yet (the
// programs may be newer than the reader) is named by its number.
func (r Reason) Text() ReasonText {
	if all := ReasonTexts(); int(r) < len(all) {
		return all[r]
	}
	number := strconv.Itoa(int(r))
	return ReasonText{Name: "REASON_" + number, Sentence: "reason " + number + ", not known to this version"}
}

// String is the reason's name.
func (r Reason) String() string { return r.Text().Name }
