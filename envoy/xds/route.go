// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/model"
)

// How long Envoy waits before it tries again.
const (
	retryFirst = 5 * time.Millisecond
	retryLast  = 100 * time.Millisecond
)

// routeConfiguration holds a ruleset's rules, each as one or more routes that let
// pass, and at the end what becomes of everything else.
func routeConfiguration(rs sifted) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:                   RulesetName(rs.ID),
		ValidateClusters:       wrapperspb.Bool(false), // the cluster never goes while routes name it
		VirtualHosts:           []*routev3.VirtualHost{virtualHost("all", "*", routes(rs))},
		RequestHeadersToRemove: []string{asideProto}, // after what the virtual host does
	}
}

func virtualHost(name, domain string, routes []*routev3.Route) *routev3.VirtualHost {
	return &routev3.VirtualHost{
		Name: name, Domains: []string{domain}, Routes: routes,
		RequestHeadersToRemove: []string{forwardedProto},
		RequestHeadersToAdd:    []*corev3.HeaderValueOption{copied(forwardedProto, asideProto)},
	}
}

func routes(rs sifted) []*routev3.Route {
	if rs.Open {
		return everything(Verdict{Outcome: Open}, pass)
	}
	all := odd()
	for i, r := range rs.Rules {
		switch {
		case !rs.faulty[i]:
			all = append(all, ruleRoutes(r)...)
		case !rs.Audit:
			all = append(all, inPlaceOf(r, rs.Ruleset)...)
		}
	}
	switch {
	case rs.Audit:
		return append(all, everything(Verdict{Outcome: Audited}, pass)...)
	case rs.lacks():
		return append(all, everything(Verdict{Outcome: Faulty}, refuse(refusal(faulty, rs.Ruleset)))...)
	}
	return append(all, everything(Verdict{Outcome: Denied}, refuse(refusal("denied by policy", rs.Ruleset)))...)
}

const faulty = "denied by policy, of which a rule has a fault and allows nothing"

// inPlaceOf refuses the requests whose headers a rule with a fault was to change: rules
// after it might let them pass as they are.
func inPlaceOf(rule model.RulesetRule, rs model.Ruleset) (out []*routev3.Route) {
	for _, h := range rule.L7.HTTP {
		if !h.ChangesHeaders() {
			continue
		}
		match := &routev3.RouteMatch{PathSpecifier: prefix("")}
		if checkExpressions(h) == nil {
			match = request(h)
		}
		r := &routev3.Route{Name: Verdict{Outcome: Faulty}.String(), Match: match}
		refuse(refusal(faulty, rs))(r)
		out = append(out, r)
	}
	return out
}

// everything are the routes for all requests: CONNECT has no path to be matched.
func everything(v Verdict, act func(*routev3.Route)) []*routev3.Route {
	connect := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}}
	rest := &routev3.RouteMatch{PathSpecifier: prefix("")}
	var out []*routev3.Route
	for _, m := range []*routev3.RouteMatch{connect, rest} {
		r := &routev3.Route{Name: v.String(), Match: m}
		act(r)
		out = append(out, r)
	}
	return out
}

// odd refuses segments such as ..; which some servers take for .. and others, and
// Envoy, for a name. The expression is looked at only where a path has what it
// cannot match without, which costs far less to find.
func odd() (out []*routev3.Route) {
	for _, needle := range []string{";", "%3"} {
		has := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: needle}}
		r := &routev3.Route{Name: Verdict{Outcome: Odd}.String(), Match: &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: regex(`(?i).*/(?:\.|%2e){1,2}(?:;|%3b).*`)},
			Headers:       []*routev3.HeaderMatcher{header(":path", has)},
		}}
		refuse("denied: the path has a segment that servers read in different ways")(r)
		out = append(out, r)
	}
	return out
}

func ruleRoutes(rule model.RulesetRule) (out []*routev3.Route) {
	for i, h := range rule.L7.HTTP {
		out = append(out, httpRoutes(rule, i, h)...)
	}
	for i, g := range rule.L7.GRPC {
		r := &routev3.Route{Name: allowed(rule, "grpc", i).String(), Match: call(g)}
		pass(r)
		out = append(out, r)
	}
	if len(rule.L7.HTTP)+len(rule.L7.GRPC)+len(rule.L7.ServerNames) == 0 {
		out = everything(Verdict{Outcome: Allowed, Policy: rule.Policy, Rule: rule.Name}, pass)
	}
	return out
}

func allowed(rule model.RulesetRule, list string, i int) Verdict {
	return Verdict{Outcome: Allowed, Policy: rule.Policy, Rule: fmt.Sprintf("%s.%s[%d]", rule.Name, list, i)}
}

func httpRoutes(rule model.RulesetRule, i int, h model.HTTPRule) (out []*routev3.Route) {
	for _, v := range variants(h.Headers) {
		verdict := allowed(rule, "http", i)
		for _, m := range v.mismatch {
			verdict.Mismatch = append(verdict.Mismatch, m.Name)
		}
		r := &routev3.Route{Name: verdict.String(), Match: request(h)}
		r.Match.Headers = append(r.Match.Headers, v.match...)
		pass(r)
		change(r, h.Headers, v.mismatch)
		out = append(out, r)
	}
	return out
}

// request matches what a rule says of method, host and path.
func request(h model.HTTPRule) *routev3.RouteMatch {
	m := &routev3.RouteMatch{}
	setPath(m, h.Path)
	if h.Method == "" || h.Method == http.MethodConnect || !isLiteral(h.Method) {
		m.Headers = append(m.Headers, notConnect())
	}
	if h.Method != "" {
		m.Headers = append(m.Headers, header(":method", matching(h.Method)))
	}
	if h.Host != "" {
		m.Headers = append(m.Headers, header(":authority", matching(hostExpression(h.Host))))
	}
	return m
}

// notConnect leaves out CONNECT, which over HTTP/2 may have a path (RFC 8441) and is no
// request for it. What Envoy takes for a WebSocket is a GET by then.
func notConnect() *routev3.HeaderMatcher {
	m := header(":method", exactly(http.MethodConnect))
	m.InvertMatch = true
	return m
}

// setPath matches a path without its query, simple expressions by what costs less.
func setPath(m *routev3.RouteMatch, expr string) {
	before, isPrefix := prefixOf(expr)
	switch {
	case expr == "" || isPrefix:
		m.PathSpecifier = prefix(before)
	case isLiteral(expr):
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: expr}
	default:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(whole(expr))}
	}
}

func prefix(p string) *routev3.RouteMatch_Prefix { return &routev3.RouteMatch_Prefix{Prefix: p} }

// call matches a gRPC call, which other requests to its path are not.
func call(g model.GRPCRule) *routev3.RouteMatch {
	m := &routev3.RouteMatch{Grpc: &routev3.RouteMatch_GrpcRouteMatchOptions{},
		Headers: []*routev3.HeaderMatcher{header(":method", exactly(http.MethodPost))}}
	switch {
	case g.Service != "" && g.Method != "":
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: "/" + g.Service + "/" + g.Method}
	case g.Service != "":
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex("/" + regexp.QuoteMeta(g.Service) + "/[^/]+")}
	case g.Method != "":
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex("/[^/]+/" + regexp.QuoteMeta(g.Method))}
	default:
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex("/[^/]+/[^/]+")}
	}
	return m
}

// pass sends a request on, for as long as it takes.
func pass(r *routev3.Route) {
	r.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: upstreamName},
		Timeout:          durationpb.New(0),
		RetryPolicy:      retries(),
	}}
}

// retries are those that a server cannot notice: it had nothing of the request. They
// also find another port where the kernel refused Envoy's, as the client uses it.
func retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,reset-before-request",
		NumRetries: wrapperspb.UInt32(3),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(retryFirst), MaxInterval: durationpb.New(retryLast)},
	}
}

// refuse answers a request; Envoy makes PERMISSION_DENIED of it for gRPC.
func refuse(body string) func(*routev3.Route) {
	return func(r *routev3.Route) {
		r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: http.StatusForbidden,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
		}}
	}
}

// maxRefusal is less than Envoy's bound for such bodies, 4096 bytes.
const maxRefusal = 2048

// refusal is a sentence and the policies behind it.
func refusal(sentence string, rs model.Ruleset) string {
	var names []string
	for _, r := range rs.Rules {
		if n := r.Policy.String(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return sentence
	}
	text := sentence + ": " + strings.Join(names, ", ")
	if len(text) > maxRefusal {
		text = text[:maxRefusal] + " …"
	}
	return text
}
