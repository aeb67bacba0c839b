// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// parseSelector reads a label selector as kubectl has it: key, !key, key=value,
// key!=value, key in (a,b), key notin (a,b), joined by commas. A key may be
// prefixed with its source ("reserved:host"); without, every source matches.
func parseSelector(s string) (model.Selector, error) {
	var sel model.Selector
	for _, term := range splitTerms(s) {
		req, err := parseRequirement(strings.TrimSpace(term))
		if err != nil {
			return model.Selector{}, fmt.Errorf("label selector %q: %w", s, err)
		}
		sel.Requirements = append(sel.Requirements, req)
	}
	return sel, nil
}

// splitTerms cuts at the commas that stand outside of parentheses.
func splitTerms(s string) []string {
	depth := 0
	return strings.FieldsFunc(s, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth == 0
	})
}

func parseRequirement(term string) (model.Requirement, error) {
	if head, list, ok := strings.Cut(term, "("); ok {
		return parseSet(head, list)
	}
	req := model.Requirement{Operator: model.OpExists}
	key := term
	if k, v, ok := strings.Cut(term, "="); ok {
		req.Operator = model.OpIn
		if strings.HasSuffix(k, "!") {
			k, req.Operator = strings.TrimSuffix(k, "!"), model.OpNotIn
		}
		key, req.Values = k, []string{strings.TrimSpace(strings.TrimPrefix(v, "="))}
	} else if strings.HasPrefix(term, "!") {
		key, req.Operator = term[1:], model.OpDoesNotExist
	}
	return withKey(req, key)
}

func parseSet(head, list string) (model.Requirement, error) {
	fields := strings.Fields(head)
	body, closed := strings.CutSuffix(strings.TrimSpace(list), ")")
	if len(fields) != 2 || !closed {
		return model.Requirement{}, fmt.Errorf("%q: want key in (a,b) or key notin (a,b)", head+"("+list)
	}
	var req model.Requirement
	switch fields[1] {
	case "in":
		req.Operator = model.OpIn
	case "notin":
		req.Operator = model.OpNotIn
	default:
		return model.Requirement{}, fmt.Errorf("operator %q: want in or notin", fields[1])
	}
	for _, v := range strings.Split(body, ",") {
		req.Values = append(req.Values, strings.TrimSpace(v))
	}
	slices.Sort(req.Values)
	return withKey(req, fields[0])
}

func withKey(req model.Requirement, key string) (model.Requirement, error) {
	req.Source, req.Key = "any", strings.TrimSpace(key)
	if source, k, ok := strings.Cut(req.Key, ":"); ok {
		req.Source, req.Key = source, k
	}
	if req.Key == "" || strings.ContainsAny(req.Key, " !()") {
		return req, fmt.Errorf("%q is no label key", key)
	}
	return req, nil
}

// selects tells whether labels fulfil every requirement.
func selects(sel model.Selector, labels model.Labels) bool {
	for _, r := range sel.Requirements {
		value, has := labels.Get(r.Source, r.Key)
		var ok bool
		switch r.Operator {
		case model.OpIn:
			ok = has && slices.Contains(r.Values, value)
		case model.OpNotIn:
			ok = !has || !slices.Contains(r.Values, value)
		case model.OpExists:
			ok = has
		case model.OpDoesNotExist:
			ok = !has
		}
		if !ok {
			return false
		}
	}
	return true
}
