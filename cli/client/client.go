// SPDX-License-Identifier: Apache-2.0

// Package client reaches the agent's API on its Unix socket and says what to do
// when it cannot.
package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// DefaultSocket is where the agent listens.
const DefaultSocket = "/run/weft/agent.sock"

// UnreachableError is an agent that does not answer on its socket.
type UnreachableError struct {
	Socket string
	Cause  error
}

// Error is the fault in one line.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the agent cannot be reached at %s: %v", e.Socket, cause(e.Cause))
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// cause leaves out what the message says already.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// Advice says what to do about it.
func (e *UnreachableError) Advice() string {
	const where = "On a plain host: systemctl status weft-agent. " +
		"In Kubernetes: kubectl -n weft-system get pods -l app=weft-agent -o wide."
	const start = "Is it running? " + where
	switch {
	case errors.Is(e.Cause, fs.ErrPermission):
		return "The socket belongs to root: run the command as root (sudo weft ...)."
	case errors.Is(e.Cause, fs.ErrNotExist):
		return start + "\nIf its socket lies elsewhere, name it with --socket or WEFT_SOCKET."
	case errors.Is(e.Cause, syscall.ECONNREFUSED):
		return "The socket is there but nobody listens: the agent has stopped or is just starting. " + where
	}
	return start
}

// Client is a connection to the agent.
type Client struct {
	agentv1.AgentServiceClient
	socket string
	conn   *grpc.ClientConn
}

// Dial connects to the socket; the error is an *UnreachableError.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var dialer net.Dialer
	probe, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, &UnreachableError{Socket: socket, Cause: err}
	}
	probe.Close()
	conn, err := grpc.NewClient("passthrough:///agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}))
	if err != nil {
		return nil, &UnreachableError{Socket: socket, Cause: err}
	}
	return &Client{AgentServiceClient: agentv1.NewAgentServiceClient(conn), socket: socket, conn: conn}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close() }

// Explain makes an *UnreachableError of a call's error when the agent went away
// during the call.
func (c *Client) Explain(err error) error {
	if status.Code(err) == codes.Unavailable {
		return &UnreachableError{Socket: c.socket, Cause: errors.New(status.Convert(err).Message())}
	}
	return err
}
