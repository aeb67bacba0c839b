// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const sourceAny = "any"

// subject converts the selector of the pods that a policy is about. A policy of
// a namespace selects pods of that namespace, whatever the selector says.
func (c *converter) subject(path string, in *metav1.LabelSelector, node bool) model.Selector {
	if in == nil {
		if !node {
			c.p.add(path, "is missing; {} selects all pods")
		}
		return model.Selector{}
	}
	reqs := c.requirements(path, in)
	for _, r := range reqs {
		if r.Source == model.SourceReserved && positive(r) {
			c.p.add(path, "selects reserved:%s; policies of anything but pods are not supported yet", r.Key)
		}
		if c.namespace != "" && isNamespace(r) && r.Operator == model.OpIn && !slices.Contains(r.Values, c.namespace) {
			c.p.add(path, "selects namespace %s, but the policy is in %s; move it there, or make it a %s",
				strings.Join(r.Values, ", "), c.namespace, KindClusterNetworkPolicy)
		}
	}
	if c.namespace != "" {
		reqs = append(reqs, inNamespace(c.namespace))
	}
	return NewSelector(reqs)
}

// peerSelector converts a selector of peers. In a policy of a namespace it means
// the policy's own, unless it speaks of namespaces or of reserved identities.
func (c *converter) peerSelector(path string, in *metav1.LabelSelector) model.Selector {
	reqs := c.requirements(path, in)
	scoped := c.namespace != ""
	for _, r := range reqs {
		if isNamespace(r) || r.Source != model.SourceReserved && strings.HasPrefix(r.Key, model.LabelNamespacePrefix) ||
			r.Source == model.SourceReserved && positive(r) {
			scoped = false
		}
	}
	if scoped {
		reqs = append(reqs, inNamespace(c.namespace))
	}
	return NewSelector(reqs)
}

// positive tells whether a label must be there for the requirement to hold.
func positive(r model.Requirement) bool {
	return r.Operator == model.OpIn || r.Operator == model.OpExists
}

func isNamespace(r model.Requirement) bool {
	return r.Key == model.LabelNamespace && r.Source != model.SourceReserved
}

func inNamespace(ns string) model.Requirement {
	return model.Requirement{Source: model.SourceK8s, Key: model.LabelNamespace, Operator: model.OpIn, Values: []string{ns}}
}

// NewSelector makes a selector of requirements, sorted and each once.
func NewSelector(reqs []model.Requirement) model.Selector {
	slices.SortFunc(reqs, compareRequirements)
	reqs = slices.CompactFunc(reqs, func(a, b model.Requirement) bool { return compareRequirements(a, b) == 0 })
	return model.Selector{Requirements: reqs}
}

func compareRequirements(a, b model.Requirement) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Source, b.Source),
		cmp.Compare(a.Operator, b.Operator), slices.Compare(a.Values, b.Values))
}

func (c *converter) requirements(path string, in *metav1.LabelSelector) []model.Requirement {
	out, problems := Requirements(path, in, func(key string) (string, string, error) {
		source, rest, ok := strings.Cut(key, ":")
		if !ok {
			source, rest = sourceAny, key
		}
		switch source {
		case sourceAny, model.SourceK8s, model.SourceReserved:
			return source, rest, nil
		}
		return "", "", fmt.Errorf("label source %q is unknown; use k8s:, any: or reserved: before the key", source)
	})
	c.p.found = append(c.p.found, problems...)
	return out
}

// Requirements converts a Kubernetes label selector, whose keys split divides
// into source and key. What is wrong is returned as lines that begin with the
// field's path.
func Requirements(path string, in *metav1.LabelSelector, split func(string) (string, string, error)) ([]model.Requirement, []string) {
	var out []model.Requirement
	p := &problems{}
	for key, value := range in.MatchLabels {
		at := fmt.Sprintf("%s.matchLabels[%s]", path, key)
		r, err := requirement(key, metav1.LabelSelectorOpIn, []string{value}, split)
		if err != nil {
			p.add(at, "%v", err)
		}
		out = append(out, r)
	}
	for i, e := range in.MatchExpressions {
		r, err := requirement(e.Key, e.Operator, e.Values, split)
		if err != nil {
			p.add(fmt.Sprintf("%s.matchExpressions[%d]", path, i), "%v", err)
		}
		out = append(out, r)
	}
	return out, p.found
}

func requirement(key string, op metav1.LabelSelectorOperator, values []string, split func(string) (string, string, error)) (model.Requirement, error) {
	source, rest, err := split(key)
	if err != nil {
		return model.Requirement{}, err
	}
	if rest == "" {
		return model.Requirement{}, fmt.Errorf("the key is missing; name a label")
	}
	values = slices.Clone(values)
	slices.Sort(values)
	r := model.Requirement{Source: source, Key: rest, Values: slices.Compact(values)}
	switch op {
	case metav1.LabelSelectorOpIn:
		r.Operator = model.OpIn
	case metav1.LabelSelectorOpNotIn:
		r.Operator = model.OpNotIn
	case metav1.LabelSelectorOpExists:
		r.Operator = model.OpExists
	case metav1.LabelSelectorOpDoesNotExist:
		r.Operator = model.OpDoesNotExist
	default:
		return r, fmt.Errorf("operator %q is unknown; use In, NotIn, Exists or DoesNotExist", op)
	}
	takes := r.Operator == model.OpIn || r.Operator == model.OpNotIn
	if takes && len(values) == 0 {
		return r, fmt.Errorf("operator %s needs values", op)
	}
	if !takes && len(values) > 0 {
		return r, fmt.Errorf("operator %s takes no values; remove them", op)
	}
	return r, nil
}
