// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Matches tells whether labels fulfil all requirements. As in Kubernetes, NotIn
// holds where the label is missing.
func Matches(s model.Selector, labels model.Labels) bool {
	for i := range s.Requirements {
		if !fulfils(&s.Requirements[i], labels) {
			return false
		}
	}
	return true
}

func fulfils(r *model.Requirement, labels model.Labels) bool {
	switch r.Operator {
	case model.OpIn:
		return has(r, labels, true)
	case model.OpNotIn:
		return !has(r, labels, true)
	case model.OpExists:
		return has(r, labels, false)
	case model.OpDoesNotExist:
		return !has(r, labels, false)
	}
	return false
}

// has tells whether a label with the key is there, with one of the values if
// they count. A key may stand under several sources.
func has(r *model.Requirement, labels model.Labels, values bool) bool {
	for i := range labels {
		l := &labels[i]
		if l.Key != r.Key || r.Source != "any" && r.Source != "" && l.Source != r.Source {
			continue
		}
		if !values || slices.Contains(r.Values, l.Value) {
			return true
		}
	}
	return false
}

// wantsReserved tells whether the selector asks for a reserved label to be
// there; only then does it match reserved identities.
func wantsReserved(s *model.Selector) bool {
	for _, r := range s.Requirements {
		if r.Source == model.SourceReserved && (r.Operator == model.OpIn || r.Operator == model.OpExists) {
			return true
		}
	}
	return false
}
