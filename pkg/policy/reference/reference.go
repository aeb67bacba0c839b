// SPDX-License-Identifier: Apache-2.0

// Package reference answers what policies allow, slowly and as plainly as can
// be: by reading every rule for every question. It shares no code with the
// compiler, which is tested against it.
package reference

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Party is one side of a connection: a pod, something reserved, or an address
// outside the cluster; exactly one of Labels, Reserved and Addr is set.
type Party struct {
	Labels   model.Labels
	Ports    []model.NamedPort // of a pod
	Reserved string            // host, remote-node, …
	Addr     netip.Addr
}

// Question asks whether the first packet of a connection may pass the subject.
type Question struct {
	Subject   Party // a pod
	Peer      Party
	Direction model.Direction
	Protocol  uint8
	Port      uint16 // of the responder; ICMP: type<<8 | code
}

// Answer says what was decided and by which rules.
type Answer struct {
	Passes bool
	Action model.Action    // ActionNone: no rule matched, the default decided
	Rules  []model.RuleRef // that match and have this action
	// L7 are the rules of which one must match each request; nil: the connection
	// passes as it is, or not at all.
	L7 []model.RuleRef
}

// Decide answers a question.
func Decide(policies []model.Policy, q Question) Answer {
	isolated := false
	var allow, deny, l7 []model.RuleRef
	for _, p := range policies {
		if !selects(p.Subject, q.Subject.Labels) {
			continue
		}
		isolated = isolated || p.Isolate[q.Direction]
		for _, r := range p.Rules {
			met := anyPeer(r, q.Peer) || r.Action == model.ActionDeny && q.Peer.Reserved == "unknown" && anyPods(r)
			if r.Direction != q.Direction || !met || !anyPort(r, q) {
				continue
			}
			ref := model.RuleRef{Policy: p.Key, Rule: r.Name, Action: r.Action}
			if r.Action == model.ActionAllow {
				allow = append(allow, ref)
				if r.L7 != nil {
					l7 = append(l7, ref)
				}
			} else {
				deny = append(deny, ref)
			}
		}
	}
	switch {
	case len(deny) > 0:
		return Answer{Action: model.ActionDeny, Rules: deny}
	case len(allow) > len(l7): // one asks for no more
		return Answer{Passes: true, Action: model.ActionAllow, Rules: allow}
	case len(allow) > 0:
		return Answer{Passes: true, Action: model.ActionAllow, Rules: allow, L7: l7}
	}
	return Answer{Passes: !isolated}
}

func anyPeer(r model.Rule, who Party) bool {
	return slices.ContainsFunc(r.Peers, func(p model.Peer) bool { return isPeer(p, who) })
}

// anyPods tells whether a rule is about pods: to deny those is to deny an address of
// the cluster's of which nothing is known, too, as it may be one of them.
func anyPods(r model.Rule) bool {
	return slices.ContainsFunc(r.Peers, func(p model.Peer) bool {
		return p.Selector != nil && !slices.ContainsFunc(p.Selector.Requirements, func(q model.Requirement) bool {
			return q.Source == model.SourceReserved && (q.Operator == model.OpIn || q.Operator == model.OpExists)
		})
	})
}

func isPeer(p model.Peer, who Party) bool {
	switch {
	case p.Any:
		return true
	case p.Entity != "":
		return isEntity(p.Entity, who)
	case p.Selector != nil:
		return who.Labels != nil && selects(*p.Selector, who.Labels)
	case who.Addr.IsValid() && p.CIDR.Contains(who.Addr):
		return !slices.ContainsFunc(p.Except, func(x netip.Prefix) bool { return x.Contains(who.Addr) })
	}
	return false
}

func isEntity(name string, who Party) bool {
	outside := who.Addr.IsValid()
	switch name {
	case "all":
		return true
	case "world":
		return outside
	case "world-ipv4":
		return outside && who.Addr.Is4()
	case "world-ipv6":
		return outside && who.Addr.Is6()
	case "cluster":
		return !outside
	}
	return who.Reserved == name
}

func selects(s model.Selector, labels model.Labels) bool {
	for _, r := range s.Requirements {
		var values []string
		for _, l := range labels {
			if l.Key == r.Key && (r.Source == "any" || r.Source == l.Source) {
				values = append(values, l.Value)
			}
		}
		among := slices.ContainsFunc(values, func(v string) bool { return slices.Contains(r.Values, v) })
		switch {
		case r.Operator == model.OpIn && !among,
			r.Operator == model.OpNotIn && among,
			r.Operator == model.OpExists && len(values) == 0,
			r.Operator == model.OpDoesNotExist && len(values) > 0:
			return false
		}
	}
	return true
}

func anyPort(r model.Rule, q Question) bool {
	if len(r.Ports) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Ports, func(p model.PortRange) bool { return isPort(p, q) })
}

func isPort(p model.PortRange, q Question) bool {
	transport := q.Protocol == model.ProtoTCP || q.Protocol == model.ProtoUDP || q.Protocol == model.ProtoSCTP
	if p.Protocol == 0 && !transport || p.Protocol != 0 && p.Protocol != q.Protocol {
		return false
	}
	if p.Name == "" {
		return p.First <= q.Port && q.Port <= p.Last
	}
	responder := q.Peer
	if q.Direction == model.Ingress {
		responder = q.Subject
	}
	return slices.Contains(responder.Ports, model.NamedPort{Name: p.Name, Protocol: q.Protocol, Port: q.Port})
}
