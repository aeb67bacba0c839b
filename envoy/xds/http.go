// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"strings"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/model"
)

const (
	headersTimeout = time.Minute // for a request's headers, from their first byte
	idleTimeout    = time.Hour   // of a connection without requests
	maxHeadersKB   = 64
	maxHeaders     = 1000
	maxStreams     = 1000      // of a client's connection
	streamWindow   = 256 << 10 // bytes, of HTTP/2
	connWindow     = 1 << 20
	noHost         = "unspecified.invalid" // the host of HTTP/1.0 requests that name none
)

const httpChainName = "http"

// httpChain reads requests. Nothing in it depends on the rules but the name of the
// routes, so that a rule that changes closes no connection.
func httpChain(rs model.Ruleset, o Options) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: httpChainName, Filters: []*listenerv3.Filter{
		note(rs, ""),
		filter("envoy.filters.network.http_connection_manager", connectionManager(rs, o)),
	}}
}

// connectionManager is as much out of the way as Envoy can be: the server gets
// requests, and the client answers, as they were sent, but for paths, which are
// normalised before they are matched and go on so.
func connectionManager(rs model.Ruleset, o Options) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: statPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: adsSource(), RouteConfigName: RulesetName(rs.ID)}},
		HttpFilters: httpFilters(rs),
		AccessLog:   accessLogs(KindHTTP, logged(rs, o)),

		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,

		UseRemoteAddress:              wrapperspb.Bool(false),
		SkipXffAppend:                 true,
		GenerateRequestId:             wrapperspb.Bool(false),
		PreserveExternalRequestId:     true,
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{beforehand(rs)},
		Proxy_100Continue:             true,
		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{
			{UpgradeType: "websocket"}, {UpgradeType: "CONNECT"}},

		// A stream may be silent for as long as its ends like.
		StreamIdleTimeout:     durationpb.New(0),
		RequestHeadersTimeout: durationpb.New(headersTimeout),
		MaxRequestHeadersKb:   wrapperspb.UInt32(maxHeadersKB),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  durationpb.New(idleTimeout),
			MaxHeadersCount:              wrapperspb.UInt32(maxHeaders),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_ALLOW,
		},
		HttpProtocolOptions:  http1(),
		Http2ProtocolOptions: manyStreams(http2()),
		// What clients say of themselves goes on, as all else does.
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY,
	}
}

// manyStreams bounds what one connection of a client's may take of what all share.
func manyStreams(o *corev3.Http2ProtocolOptions) *corev3.Http2ProtocolOptions {
	o.MaxConcurrentStreams = wrapperspb.UInt32(maxStreams)
	return o
}

// httpFilters are what a request passes. A pair's is looked at twice.
func httpFilters(rs model.Ruleset) []*hcmv3.HttpFilter {
	router := httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})
	if rs.Then == nil {
		return []*hcmv3.HttpFilter{router}
	}
	return append(againFilters(), router)
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(m)}}
}

func http1() *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{
		AcceptHttp_10:         true,
		DefaultHostForHttp_10: noHost,
		EnableTrailers:        true,
		HeaderKeyFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat{
			HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{
				StatefulFormatter: &corev3.TypedExtensionConfig{
					Name:        "envoy.http.stateful_header_formatters.preserve_case",
					TypedConfig: toAny(&casev3.PreserveCaseFormatterConfig{ForwardReasonPhrase: true}),
				}}},
	}
}

func http2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		AllowConnect:                true, // WebSocket over HTTP/2
		InitialStreamWindowSize:     wrapperspb.UInt32(streamWindow),
		InitialConnectionWindowSize: wrapperspb.UInt32(connWindow),
	}
}

// Envoy says x-forwarded-proto where the client does not. So what the client says is
// put aside before Envoy looks, and put back at the end.
const (
	forwardedProto = "x-forwarded-proto"
	asideProto     = "x-weft-forwarded-proto"
)

// beforehand is what is done to a request before Envoy looks at it. It takes away the
// headers by which a client could tell Envoy to try again, or to wait less: Envoy is
// no part of what it talks to.
func beforehand(rs model.Ruleset) *corev3.TypedExtensionConfig {
	commands := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-envoy-"}}
	mutations := []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
			RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{KeyMatcher: commands}}},
		remove(asideProto),
		add(copied(asideProto, forwardedProto)),
	}
	if rs.Then != nil {
		mutations = append(mutations, add(at(firstLook)))
	}
	return &corev3.TypedExtensionConfig{Name: "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: toAny(&earlyv3.HeaderMutation{Mutations: mutations})}
}

func remove(header string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: header}}
}

func add(h *corev3.HeaderValueOption) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: h}}
}

// copied is a header with the value of another, if that has one.
func copied(to, from string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: to, Value: "%REQ(" + from + ")%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func adsSource() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// literal is text in a place where Envoy takes % for the begin of a command.
func literal(text string) string { return strings.ReplaceAll(text, "%", "%%") }
