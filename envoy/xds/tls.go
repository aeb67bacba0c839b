// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	xcorev3 "github.com/cncf/xds/go/xds/core/v3"
	xmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	inputv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/model"
)

const (
	streamIdle  = 24 * time.Hour // of a TLS connection
	tcpAttempts = 4              // to connect, as for requests
)

// tlsChains are a chain for each name that rules allow, so that a name that is taken
// away ends its own connections only, and one for what no rule allows.
func tlsChains(rs sifted, o Options) ([]*listenerv3.FilterChain, *xmatcherv3.Matcher) {
	last, to := Verdict{Outcome: Denied}, nowhereName
	switch {
	case rs.Open:
		last, to = Verdict{Outcome: Open}, upstreamName
	case rs.Audit:
		last, to = Verdict{Outcome: Audited}, upstreamName
	case rs.lacks():
		last = Verdict{Outcome: Faulty}
	}
	sound := rs.sound()
	var chains []*listenerv3.FilterChain
	var matchers []*xmatcherv3.Matcher_MatcherList_FieldMatcher
	for _, c := range names(sound) {
		if rs.Open || slices.ContainsFunc(chains, func(o *listenerv3.FilterChain) bool { return o.Name == c.chain() }) {
			continue
		}
		chains = append(chains, streamChain(rs.Ruleset, c.chain(), c.verdict.String(), upstreamName))
		matchers = append(matchers, &xmatcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: serverNameIs(c.name), OnMatch: goTo(c.chain())})
	}
	if r := slices.IndexFunc(sound, allowsAll); r >= 0 && !rs.Open {
		last, to = Verdict{Outcome: Allowed, Policy: sound[r].Policy, Rule: sound[r].Name}, upstreamName
	}
	chains = append(chains, streamChain(rs.Ruleset, last.String(), last.String(), to))
	rest := goTo(last.String())
	if wantsHTTP(rs.Ruleset) {
		chains = append(chains, httpChain(rs.Ruleset, o))
		rest = byTransport(map[string]*xmatcherv3.Matcher_OnMatch{"tls": rest}, goTo(httpChainName))
	}
	m := &xmatcherv3.Matcher{OnNoMatch: rest}
	if len(matchers) > 0 {
		m.MatcherType = &xmatcherv3.Matcher_MatcherList_{MatcherList: &xmatcherv3.Matcher_MatcherList{Matchers: matchers}}
	}
	return chains, m
}

func allowsAll(r model.RulesetRule) bool {
	return len(r.L7.HTTP)+len(r.L7.GRPC)+len(r.L7.ServerNames) == 0
}

// named is a server name of a rule.
type named struct {
	verdict Verdict
	name    string
}

func (n named) chain() string { return n.verdict.String() }

func names(rules []model.RulesetRule) (out []named) {
	for _, r := range rules {
		for _, n := range r.L7.ServerNames {
			// By name and not by place: the chain of a name stays when another goes.
			place := fmt.Sprintf("%s.serverNames[%s]", r.Name, strings.ToLower(n))
			out = append(out, named{Verdict{Outcome: Allowed, Policy: r.Policy, Rule: place}, n})
		}
	}
	return out
}

func streamChain(rs model.Ruleset, chain, verdict, to string) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: chain, Filters: []*listenerv3.Filter{
		note(rs, verdict),
		filter("envoy.filters.network.tcp_proxy", &tcpv3.TcpProxy{
			StatPrefix:         statPrefix,
			ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: to},
			IdleTimeout:        durationpb.New(streamIdle),
			MaxConnectAttempts: wrapperspb.UInt32(tcpAttempts),
			AccessLog:          accessLogs(KindTLS, nil),
		}),
	}}
}

func goTo(chain string) *xmatcherv3.Matcher_OnMatch {
	return &xmatcherv3.Matcher_OnMatch{OnMatch: &xmatcherv3.Matcher_OnMatch_Action{
		Action: extension("chain", wrapperspb.String(chain))}}
}

func extension(name string, m proto.Message) *xcorev3.TypedExtensionConfig {
	return &xcorev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(m)}
}

// serverNameIs matches the name that a ClientHello has; Envoy reads it in lower case.
func serverNameIs(name string) *xmatcherv3.Matcher_MatcherList_Predicate {
	value := &xmatcherv3.StringMatcher{MatchPattern: &xmatcherv3.StringMatcher_Exact{Exact: strings.ToLower(name)}}
	if strings.Contains(name, "*") {
		value.MatchPattern = &xmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xmatcherv3.RegexMatcher{
			EngineType: &xmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xmatcherv3.RegexMatcher_GoogleRE2{}},
			Regex:      serverNameExpression(name)}}
	}
	return &xmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &xmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input:   extension("server_name", &inputv3.ServerNameInput{}),
			Matcher: &xmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: value},
		}}}
}

// byTransport chooses by what the connection begins with.
func byTransport(of map[string]*xmatcherv3.Matcher_OnMatch, rest *xmatcherv3.Matcher_OnMatch) *xmatcherv3.Matcher_OnMatch {
	tree := &xmatcherv3.Matcher{
		MatcherType: &xmatcherv3.Matcher_MatcherTree_{MatcherTree: &xmatcherv3.Matcher_MatcherTree{
			Input: extension("transport_protocol", &inputv3.TransportProtocolInput{}),
			TreeType: &xmatcherv3.Matcher_MatcherTree_ExactMatchMap{
				ExactMatchMap: &xmatcherv3.Matcher_MatcherTree_MatchMap{Map: of}},
		}},
		OnNoMatch: rest,
	}
	return &xmatcherv3.Matcher_OnMatch{OnMatch: &xmatcherv3.Matcher_OnMatch_Matcher{Matcher: tree}}
}
