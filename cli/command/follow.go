// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
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

// How long the flows of several nodes are held to be put in order, and how many.
const (
	reorderSpan  = 300 * time.Millisecond
	reorderLimit = 10000
)

// follower hands on the flows of one agent as they happen, over its restarts:
// traffic does not notice them, and neither should who watches it.
type follower struct {
	app    *app
	agent  *client.Agent
	stderr io.Writer
	req    *agentv1.ObserveFlowsRequest // of the next attempt
	show   func(*event) error
	last   time.Time // the latest of the flows shown; zero: none was
	met    bool      // the agent was reached once
	away   bool      // it went away, which was told
	// missing is told that the agent is not there to begin with; its error ends the
	// following, nil goes on to wait for it.
	missing func(error) error
}

func (f *follower) event(e *event) error {
	if flow := e.msg.GetFlow(); flow != nil && flow.GetTime().AsTime().After(f.last) {
		f.last = flow.GetTime().AsTime()
	}
	return f.show(e)
}

// run ends with an error only if the agent is not there to begin with, refuses,
// or the output fails; Ctrl-C is how following ends.
func (f *follower) run(ctx context.Context) error {
	wait := reconnectMin
	for {
		err := stream(ctx, f.agent, f.attempt)
		var gone *client.UnreachableError
		switch {
		case ctx.Err() != nil:
			return nil
		case !errors.As(err, &gone):
			return err
		case !f.met && !f.away:
			if err := f.missing(gone); err != nil {
				return err
			}
			f.away = true
		case !f.away:
			f.away, wait = true, reconnectMin
			f.resume()
			fmt.Fprintf(f.stderr, "weft: the agent went away; waiting for it at %s (Ctrl-C ends this)\n", f.agent.Where)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, reconnectMax)
	}
}

// attempt hands on the flows of one connection.
func (f *follower) attempt(ctx context.Context, c *client.Client) error {
	if err := c.Ready(ctx); err != nil { // a stream is silent until a flow comes
		return err
	}
	if f.away && f.met {
		fmt.Fprintf(f.stderr, "weft: the agent is back%s; flows in between may be missing\n", f.at())
	} else if f.away {
		fmt.Fprintf(f.stderr, "weft: the agent is there%s\n", f.at())
	}
	f.met, f.away = true, false
	if err := receive(ctx, c, f.req, func(msg *agentv1.ObserveFlowsResponse) error { return f.event(newEvent(f.agent.Node, msg)) }); err != nil {
		return err
	}
	return status.Error(codes.Unavailable, "it ended the stream")
}

func (f *follower) at() string {
	if f.agent.Node == "" {
		return ""
	}
	return " on node " + f.agent.Node
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

// follow shows the flows of all agents: of one as they come, of several in the
// order of their times.
func (a *app) follow(ctx context.Context, fl *fleet, req *agentv1.ObserveFlowsRequest, p printer) error {
	if len(fl.agents) == 1 {
		f := &follower{app: a, agent: fl.agents[0], stderr: a.env.Stderr, req: req, show: p.event,
			missing: func(err error) error { return err }}
		return f.run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan *event, 256)
	ended := make(chan error, len(fl.agents))
	stderr := &voice{w: a.env.Stderr}
	var absent atomic.Int32
	for _, agent := range fl.agents {
		f := &follower{app: a, agent: agent, stderr: stderr, req: proto.Clone(req).(*agentv1.ObserveFlowsRequest)}
		f.show = func(e *event) error {
			select {
			case events <- e:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		f.missing = func(err error) error {
			fmt.Fprintf(stderr, "weft: %s; waiting for it\n", plain(err))
			if int(absent.Add(1)) == len(fl.agents) {
				return err
			}
			return nil
		}
		go func() { ended <- f.run(ctx) }() // ends with ctx
	}
	return inOrder(ctx, events, ended, p)
}

// inOrder shows events until ctx ends or a follower fails.
func inOrder(ctx context.Context, events <-chan *event, ended <-chan error, p printer) error {
	w := &window{span: reorderSpan, limit: reorderLimit}
	for {
		var alarm <-chan time.Time
		if wait, held := w.wait(time.Now()); held {
			alarm = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if err != nil {
				return err
			}
		case e := <-events:
			if e.msg.GetFlow() == nil {
				if err := p.event(e); err != nil {
					return err
				}
				continue
			}
			w.add(e, time.Now())
		case <-alarm:
		}
		for _, e := range w.due(time.Now()) {
			if err := p.event(e); err != nil {
				return err
			}
		}
	}
}
