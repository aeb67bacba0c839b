// SPDX-License-Identifier: Apache-2.0

// Package render writes what the agent answers for people (lines, tables) and for
// programs (JSON). It only formats: no connection, no flags.
package render

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// Style is how flows are written.
type Style struct {
	Color    bool
	Location *time.Location // of the times; never nil
	// NodeWidth is the width of the column of nodes; 0: there is none.
	NodeWidth int
}

// ANSI colours, by what they mark.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	reset  = "\x1b[0m"
)

func (s Style) paint(color, text string) string {
	if !s.Color || color == "" {
		return text
	}
	return color + text + reset
}

// Compact is a flow on one line.
func (s Style) Compact(f *agentv1.Flow) string {
	word, color := verdict(f)
	asked := serviceName(f.GetService())
	if asked != "" {
		asked += " -> "
	}
	node := ""
	if s.NodeWidth > 0 {
		node = s.paint(dim, fmt.Sprintf("%-*s ", s.NodeWidth, f.GetNode()))
	}
	return fmt.Sprintf("%s %s%s %s -> %s%s %s  %s",
		s.paint(dim, s.clock(f)), node, s.paint(color, fmt.Sprintf("%-9s", word)),
		Peer(f.GetSource(), f.GetProtocol()), asked, Peer(f.GetDestination(), f.GetProtocol()),
		Protocol(f), s.paint(color, toldOf(f)))
}

func (s Style) clock(f *agentv1.Flow) string {
	return f.GetTime().AsTime().In(s.Location).Format("15:04:05.000")
}

// verdict is the word for what happened and its colour.
func verdict(f *agentv1.Flow) (word, color string) {
	switch f.GetType() {
	case agentv1.FlowType_FLOW_TYPE_REQUEST:
		return requestVerdict(f)
	case agentv1.FlowType_FLOW_TYPE_DROP:
		return "DROPPED", red
	case agentv1.FlowType_FLOW_TYPE_AUDIT:
		return "AUDIT", yellow
	case agentv1.FlowType_FLOW_TYPE_END:
		return "ENDED", dim
	case agentv1.FlowType_FLOW_TYPE_ALIVE:
		return "ALIVE", dim
	}
	return "FORWARDED", green
}

// serviceName is the service that was asked for, or empty.
func serviceName(s *agentv1.FlowService) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%s/%s:%d", s.GetNamespace(), s.GetName(), s.GetPort())
}

// Peer is one side: who it is (pod, else address), port, identity.
func Peer(p *agentv1.Peer, protocol string) string {
	who := p.GetIp()
	if p.GetPod() != "" {
		who = p.GetNamespace() + "/" + p.GetPod()
	}
	switch {
	case who == "":
		who = "?"
	case protocol != "tcp" && protocol != "udp" && protocol != "sctp":
	case p.GetPod() != "":
		who += ":" + strconv.Itoa(int(p.GetPort()))
	default:
		who = net.JoinHostPort(who, strconv.Itoa(int(p.GetPort())))
	}
	return who + " (" + identity(p) + ")"
}

// identity is the name where there is one for people, else the number.
func identity(p *agentv1.Peer) string {
	if p.GetEntity() != "" {
		return p.GetEntity()
	}
	if p.GetIdentity() == 0 {
		return "-"
	}
	for _, l := range p.GetLabels() {
		if strings.HasPrefix(l, "cidr:") {
			return l
		}
	}
	return strconv.FormatUint(uint64(p.GetIdentity()), 10)
}

// Protocol is the protocol with its flags or its ICMP type.
func Protocol(f *agentv1.Flow) string {
	if p := f.GetRequest().GetProtocol(); p != "" {
		return p
	}
	switch p := f.GetProtocol(); p {
	case "tcp":
		return strings.TrimSpace(p + " " + f.GetTcpFlags())
	case "icmp", "icmpv6":
		return p + " " + icmpName(p, f.GetIcmpType(), f.GetIcmpCode())
	case "", "0":
		return "-"
	default:
		if p[0] >= '0' && p[0] <= '9' {
			return "protocol " + p
		}
		return p
	}
}

// icmpName names the types that people know.
func icmpName(protocol string, kind, code uint32) string {
	switch {
	case protocol == "icmp" && kind == 8, protocol == "icmpv6" && kind == 128:
		return "echo-request"
	case protocol == "icmp" && kind == 0, protocol == "icmpv6" && kind == 129:
		return "echo-reply"
	case protocol == "icmpv6" && kind == 135:
		return "neighbour-solicitation"
	case protocol == "icmpv6" && kind == 136:
		return "neighbour-advertisement"
	case protocol == "icmpv6" && kind == 134:
		return "router-advertisement"
	}
	return fmt.Sprintf("type %d code %d", kind, code)
}
