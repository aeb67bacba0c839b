// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// Observer answers ObserveFlows of the agent's API from a store.
type Observer struct {
	Store *Store
}

// ObserveFlows streams what the request asks for. Last counts flows that match
// the filters. It ends when all that is held was sent, or with follow when the
// client goes away; a client that reads too slowly is told what it lost.
func (o *Observer) ObserveFlows(req *agentv1.ObserveFlowsRequest, stream grpc.ServerStreamingServer[agentv1.ObserveFlowsResponse]) error {
	match, err := Compile(req.GetInclude(), req.GetExclude())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	start := Start{Last: req.GetLast(), Match: match}
	if req.GetSince() != nil {
		start.Since = req.GetSince().AsTime()
	}
	reader := o.Store.Reader(start)
	for {
		batch := reader.Next()
		if err := send(stream, batch); err != nil {
			return err
		}
		switch {
		case !batch.End:
		case !req.GetFollow():
			return nil
		default:
			if err := reader.Wait(stream.Context()); err != nil {
				return status.FromContextError(err).Err()
			}
		}
	}
}

// send tells losses first: they lie before the flows of the batch.
func send(stream grpc.ServerStreamingServer[agentv1.ObserveFlowsResponse], b Batch) error {
	if b.Lost > 0 {
		err := stream.Send(&agentv1.ObserveFlowsResponse{Response: &agentv1.ObserveFlowsResponse_Lost{Lost: b.Lost}})
		if err != nil {
			return err
		}
	}
	for _, f := range b.Flows {
		err := stream.Send(&agentv1.ObserveFlowsResponse{Response: &agentv1.ObserveFlowsResponse_Flow{Flow: ToProto(f)}})
		if err != nil {
			return err
		}
	}
	return nil
}
