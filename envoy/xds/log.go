// SPDX-License-Identifier: Apache-2.0

package xds

import (
	"time"

	alogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/weftmesh/weft/pkg/model"
)

// Bounds of what waits for the agent to take it.
const (
	logBytes = 64 << 10
	logEvery = time.Second
)

// AccessLog sends records of a kind to the agent, as logs of OpenTelemetry. It is the same
// for all rulesets, so that each of Envoy's threads has one queue of each kind.
func AccessLog(kind string) *alogv3.AccessLog {
	config := &otelv3.OpenTelemetryAccessLogConfig{
		LogName: statPrefix,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ALSCluster}}},
		BufferFlushInterval:  durationpb.New(logEvery),
		BufferSizeBytes:      wrapperspb.UInt32(logBytes),
		DisableBuiltinLabels: true,
		Body:                 &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: recordFormat(kind)}},
	}
	return &alogv3.AccessLog{Name: "envoy.access_loggers.open_telemetry",
		ConfigType: &alogv3.AccessLog_TypedConfig{TypedConfig: toAny(config)}}
}

// accessLogs are the records of a kind that a filter lets pass; nil: all.
func accessLogs(kind string, of *alogv3.AccessLogFilter) []*alogv3.AccessLog {
	l := AccessLog(kind)
	l.Filter = of
	return []*alogv3.AccessLog{l}
}

// logged chooses the requests of which there is a record, the cheapest question
// first; nil: all. Of a pair's it is all, since its name tells of one of two rules.
func logged(rs model.Ruleset, o Options) *alogv3.AccessLogFilter {
	if o.LogEvery <= 1 || rs.Then != nil {
		return nil
	}
	return anyOf(sampled(o.LogEvery), failed(), failedCall(), notAllowed())
}

func sampled(every uint32) *alogv3.AccessLogFilter {
	const million = 1000000
	return &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_RuntimeFilter{RuntimeFilter: &alogv3.RuntimeFilter{
		RuntimeKey:               "weft.log",
		UseIndependentRandomness: true, // requests have no identifier
		PercentSampled: &typev3.FractionalPercent{
			Numerator: million / min(every, million), Denominator: typev3.FractionalPercent_MILLION},
	}}}
}

func failed() *alogv3.AccessLogFilter {
	const firstFailure = 400
	return &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &alogv3.StatusCodeFilter{Comparison: &alogv3.ComparisonFilter{
			Op:    alogv3.ComparisonFilter_GE,
			Value: &corev3.RuntimeUInt32{DefaultValue: firstFailure, RuntimeKey: "weft.log.failed"},
		}}}}
}

// failedCall is a gRPC call, whose HTTP status is always 200.
func failedCall() *alogv3.AccessLogFilter {
	begins := &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"}}
	call := &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &alogv3.HeaderFilter{
		Header: header("content-type", begins)}}}
	notOK := &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_GrpcStatusFilter{
		GrpcStatusFilter: &alogv3.GrpcStatusFilter{
			Statuses: []alogv3.GrpcStatusFilter_Status{alogv3.GrpcStatusFilter_OK}, Exclude: true}}}
	return &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_AndFilter{
		AndFilter: &alogv3.AndFilter{Filters: []*alogv3.AccessLogFilter{call, notOK}}}}
}

// notAllowed is a request that passed for another reason than a rule, or without the
// values that a rule asks for.
func notAllowed() *alogv3.AccessLogFilter {
	expression := "!xds.route_name.startsWith('" + string(Allowed) + verdictSeparator + "')"
	return &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &alogv3.ExtensionFilter{Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &alogv3.ExtensionFilter_TypedConfig{TypedConfig: toAny(&celv3.ExpressionFilter{Expression: expression})}}}}
}

func anyOf(filters ...*alogv3.AccessLogFilter) *alogv3.AccessLogFilter {
	return &alogv3.AccessLogFilter{FilterSpecifier: &alogv3.AccessLogFilter_OrFilter{OrFilter: &alogv3.OrFilter{Filters: filters}}}
}
