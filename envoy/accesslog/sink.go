// SPDX-License-Identifier: Apache-2.0

package accesslog

import (
	"errors"
	"fmt"
	"io"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
)

// Sink takes access logs of any number of proxies.
type Sink struct {
	alsv3.UnimplementedAccessLogServiceServer
	report func(Event)
}

// New makes a sink that reports each event. Report is called at the same time by
// several streams, and must not wait: Envoy drops what is not taken.
func New(report func(Event)) *Sink { return &Sink{report: report} }

// Register offers the service.
func (s *Sink) Register(r grpc.ServiceRegistrar) { alsv3.RegisterAccessLogServiceServer(r, s) }

// StreamAccessLogs serves one thread of a proxy until it goes.
func (s *Sink) StreamAccessLogs(stream alsv3.AccessLogService_StreamAccessLogsServer) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return fmt.Errorf("receiving access logs: %w", err)
		}
		for _, e := range m.GetHttpLogs().GetLogEntry() {
			s.report(fromHTTP(e))
		}
		for _, e := range m.GetTcpLogs().GetLogEntry() {
			s.report(fromTCP(e))
		}
	}
}
