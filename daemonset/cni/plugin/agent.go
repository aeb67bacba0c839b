// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/pkg/agentsock"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/attachment"
)

// Error codes of this plugin, as the specification leaves from 100 on.
const (
	codeRefused    uint = 100 // the agent answered, and refused
	codeUnknownPod uint = 101
	codeExhausted  uint = 102 // no address or endpoint is left on the node
	codeNotInForce uint = 103 // the policy did not get into the kernel
)

// agent is a connection to the agent, for one call of the plugin.
type agent struct {
	socket string
	conn   *grpc.ClientConn
	api    agentv1.CNIServiceClient
}

// dial connects, so that an agent that is away is told from one that fails.
func dial(ctx context.Context, socket string) (*agent, error) {
	conn, err := agentsock.Dial(ctx, socket)
	if err != nil {
		return nil, away(socket, err)
	}
	return &agent{socket: socket, conn: conn, api: agentv1.NewCNIServiceClient(conn)}, nil
}

func (a *agent) close() { a.conn.Close() }

// awayError says that the agent did not answer, so that nobody knows whether it did
// what was asked.
type awayError struct{ cause *types.Error }

// Unwrap shows the error that the plugin prints.
func (e awayError) Unwrap() error { return e.cause }

func (e awayError) Error() string { return e.cause.Error() }

// away is the error for an agent that does not answer: fail closed, try again.
func away(socket string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err // without the path, which is in the message
	}
	return awayError{types.NewError(types.ErrTryAgainLater, fmt.Sprintf("the weft agent does not answer on %s: %v; is weft-agent running?", socket, err), "")}
}

// isAway tells an agent that did not answer from one that refused.
func isAway(err error) bool {
	var e awayError
	return errors.As(err, &e)
}

// explain makes the plugin's error of an RPC's.
func (a *agent) explain(err error) error {
	st := status.Convert(err)
	code := codeRefused
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return away(a.socket, errors.New(st.Message()))
	case codes.FailedPrecondition:
		return types.NewError(types.ErrTryAgainLater, "the weft agent is not ready: "+st.Message(), "")
	case codes.NotFound:
		code = codeUnknownPod
	case codes.ResourceExhausted:
		code = codeExhausted
	case codes.Aborted:
		code = codeNotInForce
	case codes.Unimplemented:
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("the weft agent on %s does not serve the CNI plugin: %s", a.socket, st.Message()), "")
	}
	return types.NewError(code, "the weft agent refused: "+st.Message(), "")
}

func attachmentOf(k attachment.Key) *agentv1.Attachment {
	return &agentv1.Attachment{ContainerId: k.ContainerID, Ifname: k.IfName}
}
