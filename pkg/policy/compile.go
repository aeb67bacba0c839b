// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// compiled is a policy whose peers are bound to the universe.
type compiled struct {
	src    model.Policy
	serial uint64 // unlike any other's
	rules  []compiledRule
	seen   uint64 // last round in which it was given
	moved  uint64 // last round in which a rule's number changed
}

type compiledRule struct {
	src   *model.Rule
	key   model.PolicyKey
	id    model.RuleID
	peers []*peerSet
	named bool // names a port
}

func (c *Compiler) compilePolicy(p *model.Policy) *compiled {
	c.serial++
	out := &compiled{src: *p, serial: c.serial, seen: c.round, rules: make([]compiledRule, len(p.Rules))}
	for i := range p.Rules {
		r := &compiledRule{src: &p.Rules[i], key: p.Key}
		for _, peer := range p.Rules[i].Peers {
			r.peers = append(r.peers, c.universe.use(c.round, peer))
		}
		r.named = slices.ContainsFunc(r.src.Ports, func(p model.PortRange) bool { return p.Name != "" })
		out.rules[i] = *r
	}
	return out
}

// same is cheap where the caller hands in the same slices again.
func (p *compiled) same(o *model.Policy) bool {
	if p.src.Isolate != o.Isolate || len(p.src.Rules) != len(o.Rules) {
		return false
	}
	sameRules := len(o.Rules) == 0 || &p.src.Rules[0] == &o.Rules[0]
	return reflect.DeepEqual(p.src.Subject, o.Subject) && (sameRules || reflect.DeepEqual(p.src.Rules, o.Rules))
}

func compareCompiled(a, b *compiled) int {
	return cmp.Or(ComparePolicyKeys(a.src.Key, b.src.Key), cmp.Compare(a.src.Spec, b.src.Spec))
}

// subject is the state kept for a subject.
type subject struct {
	labels   model.Labels
	ports    []model.NamedPort
	policies []*compiled // that select it, sorted
	result   Result
	seen     uint64 // last round in which it was given
	done     uint64 // last round in which it was compiled
	stale    bool   // its policies changed
}

// subjectKey is equal for subjects with one identity and one table of ports.
func subjectKey(s *Subject) string {
	return fmt.Sprintf("%d%s", s.Identity, portsKey(s.Ports))
}

func portsKey(ports []model.NamedPort) string {
	if len(ports) == 0 {
		return ""
	}
	var b strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&b, " %s/%d/%d", p.Name, p.Protocol, p.Port)
	}
	return b.String()
}

// apply takes up the policies that came and went.
func (s *subject) apply(changed policyChange) {
	for _, p := range changed.gone {
		if i := slices.Index(s.policies, p); i >= 0 {
			s.policies = slices.Delete(s.policies, i, i+1)
			s.stale = true
		}
	}
	for _, p := range changed.came {
		if Matches(p.src.Subject, s.labels) {
			i, _ := slices.BinarySearchFunc(s.policies, p, compareCompiled)
			s.policies = slices.Insert(s.policies, i, p)
			s.stale = true
		}
	}
}

// dirty tells whether anything the result depends on changed in this round.
func (s *subject) dirty(round uint64, names *portNames) bool {
	if s.stale || s.done == round {
		return s.stale
	}
	for _, p := range s.policies {
		if p.moved == round {
			return true
		}
		for i := range p.rules {
			r := &p.rules[i]
			if r.named && r.src.Direction == model.Egress && names.round == round {
				return true
			}
			for _, peer := range r.peers {
				if peer.round == round {
					return true
				}
			}
		}
	}
	return false
}

// dependsOn is equal for subjects whose results are: the policies that select
// them and, if one of them names ports in ingress, their own ports.
func (s *subject) dependsOn() string {
	var key []byte
	named := false
	for _, p := range s.policies {
		key = binary.BigEndian.AppendUint64(key, p.serial)
		named = named || slices.ContainsFunc(p.rules, func(r compiledRule) bool {
			return r.named && r.src.Direction == model.Ingress
		})
	}
	if named {
		key = append(key, portsKey(s.ports)...)
	}
	return string(key)
}

func (s *subject) compile(names *portNames) Result {
	res := Result{}
	rules := [2][]*compiledRule{}
	for _, p := range s.policies {
		key := p.src.Key
		res.Policies = appendOnce(res.Policies, key)
		for d, isolate := range p.src.Isolate {
			if isolate {
				res.Isolate[d] = true
				res.Isolated[d] = appendOnce(res.Isolated[d], key)
			}
		}
		for i := range p.rules {
			d := p.rules[i].src.Direction & 1
			rules[d] = append(rules[d], &p.rules[i])
		}
	}
	var sets rulesets
	for d, list := range rules {
		b := builder{direction: model.Direction(d), rules: list, subject: s.ports, names: names, rulesets: &sets}
		n := len(res.Set.Entries)
		res.Set.Entries = b.build(res.Set.Entries)
		res.HasRules[d] = len(res.Set.Entries) > n
	}
	res.Rulesets = sets.number(res.Set.Entries)
	res.Set.Hash = model.HashEntries(res.Set.Entries)
	return res
}

// appendOnce appends to a sorted list what is not its last item already.
func appendOnce(list []model.PolicyKey, k model.PolicyKey) []model.PolicyKey {
	if n := len(list); n > 0 && list[n-1] == k {
		return list
	}
	return append(list, k)
}
