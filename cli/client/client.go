// SPDX-License-Identifier: Apache-2.0

// Package client reaches the API of one agent and says what to do when it cannot.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/pkg/agentsock"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// UnreachableError is an agent that does not answer.
type UnreachableError struct {
	What   string // empty: the agent
	Where  string // the socket, or node and pod
	Cause  error
	Remedy string // what to do; empty: it follows from the cause
}

// Error is the fault in one line.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s cannot be reached at %s: %v", cmp.Or(e.What, "the agent"), e.Where, cause(e.Cause))
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
		"In Kubernetes: weft status --kubeconfig FILE, from anywhere."
	const start = "Is it running? " + where
	switch {
	case e.Remedy != "":
		return e.Remedy
	case errors.Is(e.Cause, fs.ErrPermission):
		return "The socket belongs to root: run the command as root (sudo weft ...), or name a cluster with --kubeconfig."
	case errors.Is(e.Cause, fs.ErrNotExist):
		return start + "\nIf its socket lies elsewhere, name it with --socket or WEFT_SOCKET."
	case errors.Is(e.Cause, syscall.ECONNREFUSED):
		return "The socket is there but nobody listens: the agent has stopped or is just starting. " + where
	}
	return start
}

// Agent is an agent that commands can speak to.
type Agent struct {
	// Node it runs on; empty for the one of this host, whose answers name it.
	Node string
	// Where it is reached, for messages: a socket, or node and pod.
	Where string
	// Dial connects; an error says why the agent cannot be reached.
	Dial func(context.Context) (*Client, error)
}

// Local is the agent behind a socket of this host.
func Local(socket string) *Agent {
	return &Agent{Where: socket, Dial: func(ctx context.Context) (*Client, error) { return Dial(ctx, socket) }}
}

// Client is a connection to an agent.
type Client struct {
	agentv1.AgentServiceClient
	conn *grpc.ClientConn
	// unreachable makes the error of a call that did not get through.
	unreachable func(error) error
}

// New makes a client of a connection; unreachable explains a call that failed
// because the agent, or the way to it, went away.
func New(conn *grpc.ClientConn, unreachable func(error) error) *Client {
	return &Client{AgentServiceClient: agentv1.NewAgentServiceClient(conn), conn: conn, unreachable: unreachable}
}

// Dial connects to a socket of this host; the error is an *UnreachableError.
func Dial(ctx context.Context, socket string) (*Client, error) {
	unreachable := func(err error) error { return &UnreachableError{Where: socket, Cause: err} }
	conn, err := agentsock.Dial(ctx, socket)
	if err != nil {
		return nil, unreachable(err)
	}
	return New(conn, unreachable), nil
}

// Close ends the connection.
func (c *Client) Close() { c.conn.Close() }

// Ready waits until the agent is there; the error is that of Explain.
func (c *Client) Ready(ctx context.Context) error {
	c.conn.Connect()
	for {
		state := c.conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			return c.unreachable(errors.New("it does not answer"))
		}
		if !c.conn.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// Explain makes an *UnreachableError of a call's error when the agent went away
// during the call.
func (c *Client) Explain(err error) error {
	if status.Code(err) == codes.Unavailable {
		return c.unreachable(errors.New(status.Convert(err).Message()))
	}
	return err
}
