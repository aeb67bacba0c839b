// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// ruleName names a rule node-wide.
type ruleName struct {
	policy model.PolicyKey
	rule   string
}

// RuleNumbers is the numbering of all rules.
type RuleNumbers struct {
	ids  map[ruleName]model.RuleID
	refs map[model.RuleID]model.RuleRef
}

// ID is the number of a rule, 0 for an unknown one.
func (n RuleNumbers) ID(policy model.PolicyKey, rule string) model.RuleID {
	return n.ids[ruleName{policy, rule}]
}

// Ref tells what a number stands for.
func (n RuleNumbers) Ref(id model.RuleID) (model.RuleRef, bool) {
	ref, ok := n.refs[id]
	return ref, ok
}

// NumberRules numbers the rules of all policies. A number is the hash of the
// rule's name; of rules whose hashes collide the first in order of names keeps
// it, the others take the next free ones. So a number survives restarts and,
// short of a collision, every change of other policies.
func NumberRules(policies []model.Policy) RuleNumbers {
	names := make([]ruleRefName, 0, 4*len(policies))
	for i := range policies {
		p := &policies[i]
		for j := range p.Rules {
			r := &p.Rules[j]
			names = append(names, ruleRefName{ruleName{p.Key, r.Name}, r.Action})
		}
	}
	return number(names)
}

type ruleRefName struct {
	ruleName
	action model.Action
}

func number(names []ruleRefName) RuleNumbers {
	slices.SortFunc(names, func(a, b ruleRefName) int {
		return cmp.Or(ComparePolicyKeys(a.policy, b.policy), cmp.Compare(a.rule, b.rule))
	})
	n := RuleNumbers{
		ids:  make(map[ruleName]model.RuleID, len(names)),
		refs: make(map[model.RuleID]model.RuleRef, len(names)),
	}
	for _, name := range names {
		if _, done := n.ids[name.ruleName]; done {
			continue
		}
		id := ruleHash(name.ruleName)
		for {
			if _, taken := n.refs[id]; id != 0 && !taken {
				break
			}
			id++
		}
		n.ids[name.ruleName] = id
		n.refs[id] = model.RuleRef{Policy: name.policy, Rule: name.rule, Action: name.action}
	}
	return n
}

func ruleHash(n ruleName) model.RuleID {
	k := n.policy
	sum := sha256.Sum256([]byte(k.Kind + "\x00" + k.Namespace + "\x00" + k.Name + "\x00" + n.rule))
	return model.RuleID(binary.BigEndian.Uint32(sum[:]))
}

// ComparePolicyKeys orders policies by kind, namespace and name.
func ComparePolicyKeys(a, b model.PolicyKey) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// All is the whole numbering. It must not be changed.
func (n RuleNumbers) All() map[model.RuleID]model.RuleRef { return n.refs }
