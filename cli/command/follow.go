// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weftmesh/weft/cli/client"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// How long following waits between two attempts to reach an agent that went
// away: little at first, for a restart is short.
const (
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 3 * time.Second
)

// follower shows flows as they happen, over restarts of the agent: traffic does
// not notice them, and neither should who watches it.
type follower struct {
	app  *app
	req  *agentv1.ObserveFlowsRequest // of the next attempt
	show printer
	last time.Time // the latest of the flows shown; zero: none was
	met  bool      // the agent was reached once
	away bool      // it went away, which was told
}

func (a *app) follow(ctx context.Context, req *agentv1.ObserveFlowsRequest, p printer) error {
	f := &follower{app: a, req: req, show: p}
	f.show.flow = func(flow *agentv1.Flow) error {
		if at := flow.GetTime().AsTime(); at.After(f.last) {
			f.last = at
		}
		return p.flow(flow)
	}
	return f.run(ctx)
}

// run ends with an error only if the agent is not there to begin with, refuses,
// or the output fails; Ctrl-C is how following ends.
func (f *follower) run(ctx context.Context) error {
	wait := reconnectMin
	for {
		err := f.app.stream(ctx, f.attempt)
		var gone *client.UnreachableError
		switch {
		case ctx.Err() != nil:
			return nil
		case !f.met || !errors.As(err, &gone):
			return err
		case !f.away:
			f.away, wait = true, reconnectMin
			f.resume()
			fmt.Fprintf(f.app.env.Stderr, "weft: the agent went away; waiting for it at %s (Ctrl-C ends this)\n", f.app.socket)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, reconnectMax)
	}
}

// attempt shows the flows of one connection.
func (f *follower) attempt(ctx context.Context, c *client.Client) error {
	stream, err := c.ObserveFlows(ctx, f.req)
	if err != nil {
		return err
	}
	if f.away {
		fmt.Fprintln(f.app.env.Stderr, "weft: the agent is back; flows in between may be missing")
	}
	f.met, f.away = true, false
	if err := f.app.show(stream, f.show); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "it ended the stream")
}

// resume asks for all that came after the last flow shown. Should the clock have
// been set back since, that begins now, for else it would begin much later.
func (f *follower) resume() {
	f.req.Last = 0
	if f.last.IsZero() {
		return
	}
	since := f.last.Add(time.Nanosecond)
	if now := f.app.env.Now(); now.Before(since) {
		since = now
	}
	f.req.Since = timestamppb.New(since)
}
