// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Subject is what rows are compiled for: endpoints with one identity and one
// table of named ports share the result.
type Subject struct {
	Identity model.IdentityID
	Labels   model.Labels
	Ports    []model.NamedPort // sorted by name, protocol
}

// Inputs is all that a compilation depends on. What is handed in must not be
// changed afterwards.
type Inputs struct {
	Policies   []model.Policy   // each (Key, Spec) once
	Identities []model.Identity // cluster-wide ones; the reserved are known
	// Ports are the named ports of the pods that have an identity: in egress a
	// name means the peer's port. Of pods that share an identity and differ in
	// ports all are meant.
	Ports map[model.IdentityID][]model.NamedPort
	// Prefixes are the node-local identities (Locals.IDs); all of
	// Prefixes(Policies) must be there, more may be.
	Prefixes map[netip.Prefix]model.IdentityID
	Subjects []Subject
}

// Result is what holds for a subject. Slices are shared and must not be changed.
type Result struct {
	Set model.PolicySet
	// Rulesets are those that entries of Set name, by their place in this list, from
	// 1: what numbers they have on the node is not known here. Sorted by origins.
	Rulesets []model.Ruleset
	Isolate  [2]bool              // default deny, by Direction
	HasRules [2]bool              // the set has entries in the Direction
	Policies []model.PolicyKey    // that select the subject, sorted, each once
	Isolated [2][]model.PolicyKey // those of them that ask for default deny
}

// Output is the answer to Inputs.
type Output struct {
	Results []Result // by index of Inputs.Subjects
	Rules   RuleNumbers
}

// Compiler compiles policies, and keeps what the next compilation can use. It is
// not safe for concurrent use.
type Compiler struct {
	round    uint64
	universe *universe
	policies map[policyID]*compiled
	subjects map[string]*subject
	names    portNames
	rules    RuleNumbers
	serial   uint64 // of the newest compiled policy
}

// policyID names one spec of a policy object.
type policyID struct {
	key  model.PolicyKey
	spec int
}

// NewCompiler makes a compiler that knows nothing yet.
func NewCompiler() *Compiler {
	return &Compiler{
		universe: newUniverse(), policies: map[policyID]*compiled{},
		subjects: map[string]*subject{}, rules: number(nil),
	}
}

// Compile answers Inputs from nothing: the pure function that a Compiler
// speeds up.
func Compile(in Inputs) (Output, error) { return NewCompiler().Update(in) }

// Update compiles. An error tells that the inputs contradict each other; the
// compiler is then as it was.
func (c *Compiler) Update(in Inputs) (Output, error) {
	if err := check(in); err != nil {
		return Output{}, err
	}
	c.round++
	c.universe.sync(c.round, in.Identities, in.Prefixes)
	c.names.sync(c.round, in.Ports)
	changed := c.syncPolicies(in.Policies)
	out := Output{Results: make([]Result, len(in.Subjects)), Rules: c.rules}
	fresh := map[string]Result{} // of this round, by what they depend on
	for i := range in.Subjects {
		s := c.subject(&in.Subjects[i], changed)
		if s.dirty(c.round, &c.names) {
			key := s.dependsOn()
			res, ok := fresh[key]
			if !ok {
				res = s.compile(&c.names)
				fresh[key] = res
			}
			s.result, s.stale, s.done = res, false, c.round
		}
		out.Results[i] = s.result
	}
	for key, s := range c.subjects {
		if s.seen != c.round {
			delete(c.subjects, key)
		}
	}
	return out, nil
}

func check(in Inputs) error {
	seen := make(map[policyID]struct{}, len(in.Policies))
	for i := range in.Policies {
		p := &in.Policies[i]
		id := policyID{p.Key, p.Spec}
		if _, twice := seen[id]; twice {
			return fmt.Errorf("policy %s (spec %d) is given twice", p.Key, p.Spec)
		}
		seen[id] = struct{}{}
	}
	for _, p := range Prefixes(in.Policies) {
		if _, ok := in.Prefixes[p]; !ok {
			return fmt.Errorf("prefix %s of a policy has no identity", p)
		}
	}
	return nil
}

// syncPolicies makes the compiled policies those that are given, and answers
// with the ones that came and went.
func (c *Compiler) syncPolicies(policies []model.Policy) (changed policyChange) {
	for i := range policies {
		p := &policies[i]
		id := policyID{p.Key, p.Spec}
		old, ok := c.policies[id]
		if ok && old.same(p) {
			old.seen = c.round
			continue
		}
		if ok {
			changed.gone = append(changed.gone, old)
		}
		fresh := c.compilePolicy(p)
		c.policies[id] = fresh
		changed.came = append(changed.came, fresh)
	}
	for id, p := range c.policies {
		if p.seen != c.round {
			delete(c.policies, id)
			changed.gone = append(changed.gone, p)
		}
	}
	for _, p := range changed.gone {
		for i := range p.rules {
			for _, s := range p.rules[i].peers {
				c.universe.release(s)
			}
		}
	}
	if len(changed.came)+len(changed.gone) > 0 {
		c.renumber()
	}
	return changed
}

// policyChange is what syncPolicies found.
type policyChange struct{ came, gone []*compiled }

// renumber numbers all rules anew; a policy whose numbers moved counts as
// changed for its subjects.
func (c *Compiler) renumber() {
	var names []ruleRefName
	for _, p := range c.policies {
		for i := range p.rules {
			r := p.rules[i].src
			names = append(names, ruleRefName{ruleName{p.src.Key, r.Name}, r.Action})
		}
	}
	c.rules = number(names)
	for _, p := range c.policies {
		for i := range p.rules {
			r := &p.rules[i]
			if id := c.rules.ID(p.src.Key, r.src.Name); id != r.id {
				r.id, p.moved = id, c.round
			}
		}
	}
}

// subject finds or makes the state of a subject, with its policies up to date.
func (c *Compiler) subject(in *Subject, changed policyChange) *subject {
	key := subjectKey(in)
	s, ok := c.subjects[key]
	if ok && s.seen == c.round {
		return s
	}
	if ok && s.labels.Same(in.Labels) {
		s.seen = c.round
		s.apply(changed)
		return s
	}
	s = &subject{labels: in.Labels, ports: in.Ports, seen: c.round, stale: true}
	for _, p := range c.policies {
		if Matches(p.src.Subject, in.Labels) {
			s.policies = append(s.policies, p)
		}
	}
	slices.SortFunc(s.policies, compareCompiled)
	c.subjects[key] = s
	return s
}
