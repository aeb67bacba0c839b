// SPDX-License-Identifier: Apache-2.0

// Package agentsock connects to the Unix sockets on which the agent serves gRPC.
package agentsock

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Default is where the agent serves its API.
const Default = "/run/weft/agent.sock"

// Dial connects. It tries the socket at once, so that an agent that is away is told
// from one that fails; the error is that of the system call.
func Dial(ctx context.Context, socket string) (*grpc.ClientConn, error) {
	connect := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	probe, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	probe.Close()
	return Over(connect)
}

// Over makes a connection of gRPC that gets its transport from connect, at its
// first call and whenever one broke.
func Over(connect func(context.Context) (net.Conn, error)) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///weft-agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx) }))
}
