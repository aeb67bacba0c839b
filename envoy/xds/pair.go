// SPDX-License-Identifier: Apache-2.0

package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	setv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A request of a pair is looked at twice, each time by the routes of one ruleset. At
// which look it is, a header says, by which Envoy chooses the virtual host: at first the
// one with the first ruleset's routes. Those that let pass change the header, and do what
// mismatches ask for; then Envoy forgets the route and chooses again. A request that is
// not let pass meets the same routes once more, and their answer.
const (
	lookHeader = "x-weft-look"
	firstLook  = "first"
	secondLook = "second"
)

const mutationFilter = "envoy.filters.http.header_mutation"

// at says at which look a request is, whatever was said before.
func at(look string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: lookHeader, Value: look},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
}

// againFilters have a request looked at again, after its first route was written down
// and has done what it does to the request.
func againFilters() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{
		httpFilter(mutationFilter, &mutationv3.HeaderMutation{}),
		httpFilter("envoy.filters.http.set_filter_state", &setv3.Config{
			OnRequestHeaders: []*statev3.FilterStateValue{formatted(StateVerdict, "%ROUTE_NAME%")},
			ClearRouteCache:  true,
		}),
	}
}

// pairRoutes holds the rules of both rulesets of a pair.
func pairRoutes(rs, then sifted) *routev3.RouteConfiguration {
	first := routes(rs)
	for _, r := range first {
		lookAgain(r)
	}
	return &routev3.RouteConfiguration{
		Name:             RulesetName(rs.ID),
		ValidateClusters: wrapperspb.Bool(false),
		VhostHeader:      lookHeader,
		VirtualHosts: []*routev3.VirtualHost{
			virtualHost(firstLook, firstLook, first),
			virtualHost(secondLook, secondLook, routes(then)),
		},
		RequestHeadersToRemove: []string{asideProto, lookHeader},
	}
}

// lookAgain has a route that lets pass do so only for the look at the other ruleset.
func lookAgain(r *routev3.Route) {
	if r.GetRoute() == nil {
		return
	}
	m := &mutationv3.Mutations{}
	for _, name := range r.RequestHeadersToRemove {
		m.RequestMutations = append(m.RequestMutations, remove(name))
	}
	for _, h := range r.RequestHeadersToAdd {
		m.RequestMutations = append(m.RequestMutations, add(h))
	}
	m.RequestMutations = append(m.RequestMutations, add(at(secondLook)))
	r.RequestHeadersToRemove, r.RequestHeadersToAdd = nil, nil
	r.TypedPerFilterConfig = map[string]*anypb.Any{mutationFilter: toAny(&mutationv3.HeaderMutationPerRoute{Mutations: m})}
	// Envoy must never take it: it would have passed the first ruleset alone.
	r.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: nowhereName}}}
}
