// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

// leaveWithin is how long the agent may take to send new connections elsewhere.
const leaveWithin = 2 * time.Second

// leave tells the agent that this Envoy is about to end: new connections are for the other
// one, if there is another, also where this one was started last.
func leave(ctx context.Context, cfg Config) error {
	ctx, stop := context.WithTimeout(ctx, leaveWithin)
	defer stop()
	conn, err := grpc.NewClient("unix://"+cfg.shared(bootstrap.ADSSocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("calling the agent: %w", err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("telling the agent that Envoy ends: %w", err)
	}
	me := cfg.Bootstrap.Proxy
	me.Leaving = true
	// An error of sending is told by receiving.
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: cfg.Bootstrap.Node, Metadata: me.Metadata()}})
	if _, err := stream.Recv(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("telling the agent that Envoy ends: %w", err)
	}
	return nil
}
