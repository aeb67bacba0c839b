// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// builder makes the entries of one direction. Identities that the same rules
// name, with the same ports behind names, form a group; a group is resolved
// once.
type builder struct {
	direction model.Direction
	rules     []*compiledRule // in order of policies and of their rules
	subject   []model.NamedPort
	names     *portNames
	groups    []group
	next      map[step]int             // group that follows when a rule is added
	of        map[model.IdentityID]int // each identity's group
	// allowed is what rules about everybody allow: the rows of an identity that ask
	// for more than ports say it, too, as of two equal answers the identity's counts.
	allowed  map[portPrefix]saying
	rulesets *rulesets
}

// group is a chain of rules: those of the group before, and one more.
type group struct {
	before int // -1: the empty group
	rule   int
	named  bool // some rule of the chain asks for peers' named ports
	l7     bool // some rule of the chain asks for more than ports
}

type step struct {
	group, rule int
	named       bool
}

func (b *builder) build(out []model.PolicyEntry) []model.PolicyEntry {
	b.groups = []group{{before: -1, rule: -1}}
	b.next, b.of = map[step]int{}, map[model.IdentityID]int{}
	everybody := 0 // group of the rules about everybody
	for i, r := range b.rules {
		any := slices.ContainsFunc(r.peers, func(s *peerSet) bool { return s.any })
		peerNamed := r.named && b.direction == model.Egress
		if any {
			everybody = b.follow(everybody, i, false)
			if !peerNamed {
				continue // nothing more to say about anyone
			}
			for _, port := range r.src.Ports {
				for _, id := range b.names.ids(port.Name) {
					b.join(id, i, true)
				}
			}
			continue
		}
		for _, s := range r.peers {
			for _, id := range s.members {
				b.join(id, i, peerNamed)
			}
		}
		if deniesPods(r) {
			b.join(model.IdentityUnknown, i, peerNamed)
		}
	}
	b.allowed = b.said(everybody, nil)
	out = b.emit(out, model.IdentityNone, resolve(b.allowed))
	maps.DeleteFunc(b.allowed, func(_ portPrefix, s saying) bool { return s.precedence != PrecedenceAllow })
	return b.emitAll(out)
}

// deniesPods tells whether a rule denies pods by their labels. One whose labels are
// not known may be one of those, and must not get past the rule while the word of it
// is on its way.
func deniesPods(r *compiledRule) bool {
	return r.src.Action != model.ActionAllow && slices.ContainsFunc(r.peers, func(s *peerSet) bool {
		return s.peer.Selector != nil && !wantsReserved(s.peer.Selector)
	})
}

// join adds a rule to an identity's group, once.
func (b *builder) join(id model.IdentityID, rule int, named bool) {
	if g := b.of[id]; b.groups[g].rule != rule {
		b.of[id] = b.follow(g, rule, named)
	}
}

func (b *builder) follow(before, rule int, named bool) int {
	s := step{before, rule, named}
	g, ok := b.next[s]
	if !ok {
		g = len(b.groups)
		b.groups = append(b.groups, group{before: before, rule: rule, named: named || b.groups[before].named,
			l7: b.rules[rule].src.L7 != nil || b.groups[before].l7})
		b.next[s] = g
	}
	return g
}

// emitAll emits the rows of every identity that a rule names.
func (b *builder) emitAll(out []model.PolicyEntry) []model.PolicyEntry {
	rows := make([][]row, len(b.groups)) // of groups without named ports
	for _, id := range slices.Sorted(maps.Keys(b.of)) {
		g := b.of[id]
		if b.groups[g].named {
			out = b.emit(out, id, b.rows(g, b.names.of[id]))
			continue
		}
		if rows[g] == nil {
			rows[g] = b.rows(g, nil)
		}
		out = b.emit(out, id, rows[g])
	}
	return out
}

// rows resolves the rules of a group. In egress, peer are the named ports of
// the identity it is resolved for.
func (b *builder) rows(g int, peer []model.NamedPort) []row {
	said := b.said(g, peer)
	if b.groups[g].l7 {
		for p, s := range b.allowed {
			said[p] = said[p].with(s)
		}
	}
	return resolve(said)
}

// said is what the rules of a group say, by prefix.
func (b *builder) said(g int, peer []model.NamedPort) map[portPrefix]saying {
	said := map[portPrefix]saying{}
	for ; g > 0; g = b.groups[g].before {
		i := b.groups[g].rule
		r := b.rules[i].src
		s := saying{precedence: precedence(r.Action), order: i}
		if r.L7 != nil && r.Action == model.ActionAllow {
			s.l7 = []int{i}
		}
		add := func(p portPrefix) { said[p] = said[p].with(s) }
		if len(r.Ports) == 0 {
			add(portPrefix{})
		}
		for _, p := range r.Ports {
			b.ports(p, peer, add)
		}
	}
	return said
}

// ports adds the prefixes of a range, or of the ports that have a name: in
// ingress the subject's, in egress the peer's.
func (b *builder) ports(p model.PortRange, peer []model.NamedPort, add func(portPrefix)) {
	if p.Name == "" {
		rangePrefixes(p.Protocol, p.First, p.Last, add)
		return
	}
	named := b.subject
	if b.direction == model.Egress {
		named = peer
	}
	for _, n := range named {
		if n.Name == p.Name && (p.Protocol == 0 || p.Protocol == n.Protocol) {
			add(portPrefix{bits: 24, proto: n.Protocol, port: n.Port})
		}
	}
}

func (b *builder) emit(out []model.PolicyEntry, peer model.IdentityID, rows []row) []model.PolicyEntry {
	for _, r := range rows {
		rule := b.rules[r.order]
		e := model.PolicyEntry{
			Direction: b.direction, Peer: peer, Protocol: r.proto, Port: r.port,
			Action: rule.src.Action, Precedence: r.precedence, Rule: rule.id,
			Ruleset: b.rulesets.of(b.rules, r.l7),
		}
		if r.bits > 8 {
			e.PortBits = r.bits - 8
		}
		out = append(out, e)
	}
	return out
}

// precedence of an action; what is not an allow is taken for a deny.
func precedence(a model.Action) uint32 {
	if a == model.ActionAllow {
		return PrecedenceAllow
	}
	return PrecedenceDeny
}
