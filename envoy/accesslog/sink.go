// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Sink takes records of any number of proxies, as a service of OpenTelemetry's logs.
type Sink struct{ report func(Event) }

// New makes a sink that reports each event. Report is called at the same time by
// several calls, and must not wait: Envoy drops what is not taken.
func New(report func(Event)) *Sink { return &Sink{report: report} }

const (
	service = "opentelemetry.proto.collector.logs.v1.LogsService"
	method  = "Export"
)

// Register offers the service. What its request holds is read here, and its answer has
// nothing to say, so both are messages without fields.
func (s *Sink) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: service,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: method, Handler: export}},
	}, s)
}

func export(sink any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	request := new(emptypb.Empty)
	if err := decode(request); err != nil {
		return nil, fmt.Errorf("reading records of requests: %w", err)
	}
	take := func(context.Context, any) (any, error) {
		return new(emptypb.Empty), sink.(*Sink).take(request.ProtoReflect().GetUnknown())
	}
	if intercept == nil {
		return take(ctx, request)
	}
	return intercept(ctx, request, &grpc.UnaryServerInfo{Server: sink, FullMethod: "/" + service + "/" + method}, take)
}

func (s *Sink) take(request []byte) error {
	err := decode(request, func(began time.Time, text string) { s.report(parse(began, text)) })
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}
