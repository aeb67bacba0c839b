// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"cmp"
	"errors"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/weftmesh/weft/pkg/model"
)

// isConditional tells whether a rule needs a route for requests that have the
// header's value and another for those that have not. A header that is replaced has
// the value afterwards in both.
func isConditional(m model.HeaderMatch) bool {
	switch m.Mismatch {
	case model.MismatchLog, model.MismatchAdd:
		return true
	case model.MismatchDelete:
		return m.Value != "" // else it mismatches only where there is nothing to remove
	default:
		return false
	}
}

// variant is one way in which a request can pass a rule: with the values of some of
// its conditional headers, and without those of others.
type variant struct {
	match    []*routev3.HeaderMatcher
	mismatch []model.HeaderMatch
}

// variants of a rule's headers, the one with most values first: a route is looked at
// only when those before it did not match, so that it has to ask for no absence.
func variants(headers []model.HeaderMatch) []variant {
	var always []*routev3.HeaderMatcher
	var conditional []model.HeaderMatch
	for _, m := range headers {
		if m.Mismatch == model.MismatchDeny {
			always = append(always, has(m))
			always = append(always, withoutLookalikes(m.Name)...)
		}
		if isConditional(m) {
			conditional = append(conditional, m)
		}
	}
	all := make([]variant, 0, 1<<len(conditional))
	for mask := range uint(1 << len(conditional)) {
		v := variant{match: slices.Clone(always)}
		for i, m := range conditional {
			if mask&(1<<i) == 0 {
				v.match = append(v.match, has(m))
			} else {
				v.mismatch = append(v.mismatch, m)
			}
		}
		all = append(all, v)
	}
	slices.SortStableFunc(all, func(a, b variant) int { return cmp.Compare(len(a.mismatch), len(b.mismatch)) })
	return all
}

// has asks for a header's value. Envoy joins values of headers of one name with
// commas, so a request that has two has neither.
func has(m model.HeaderMatch) *routev3.HeaderMatcher {
	name := asEnvoyHas(m.Name)
	if m.Value == "" {
		return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	}
	return header(name, exactly(m.Value))
}

// header asks for a value.
func header(name string, value *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: value}}
}

// withoutLookalikes asks that headers are absent which servers may take for the one
// that is asked for.
func withoutLookalikes(name string) (out []*routev3.HeaderMatcher) {
	for _, as := range model.Lookalikes(name) {
		out = append(out, &routev3.HeaderMatcher{Name: as, InvertMatch: true,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}})
	}
	return out
}

// asEnvoyHas is the name under which Envoy has a header when it looks at a request.
func asEnvoyHas(name string) string {
	switch name {
	case "host":
		return ":authority"
	case forwardedProto:
		return asideProto
	}
	return name
}

// change has the route do to a request what the mismatches ask for. Where a header gets
// a value or goes, so do those that servers may take for it.
func change(r *routev3.Route, headers, mismatch []model.HeaderMatch) {
	for _, m := range headers {
		if m.Mismatch == model.MismatchReplace || m.Mismatch == model.MismatchDelete {
			r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, model.Lookalikes(m.Name)...)
		}
		if m.Mismatch == model.MismatchReplace {
			r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, set(m, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
		}
	}
	for _, m := range mismatch {
		switch m.Mismatch {
		case model.MismatchAdd:
			r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, set(m, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
		case model.MismatchDelete:
			r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, asEnvoyHas(m.Name))
		}
	}
}

// set is a header with a value.
func set(m model.HeaderMatch, how corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: asEnvoyHas(m.Name), Value: literal(m.Value)}, AppendAction: how}
}

// joinSorted joins errors in an order that does not depend on that of a map.
func joinSorted(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
