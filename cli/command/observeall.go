// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/weftmesh/weft/cli/client"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// source is a stream of flows under way, which is in the order of time.
type source struct {
	node   string
	events chan *event // closed at its end
	err    error       // why it ended; valid then
	head   *event
}

// observeAll shows the flows that agents have, merged by time, and of those that
// several nodes gave the newest.
func (a *app) observeAll(ctx context.Context, f *fleet, req *agentv1.ObserveFlowsRequest, p printer) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	sources := a.openSources(ctx, f, req)
	show, flush := p.event, func() error { return nil }
	if req.GetLast() > 0 && len(sources) > 1 {
		show, flush = tail(int(req.GetLast()), p.event)
	}
	err := mergeSources(sources, show)
	if err == nil {
		err = flush()
	}
	if endErr := p.end(); err == nil {
		err = endErr
	}
	if err != nil {
		return err
	}
	var answers []answer[struct{}]
	for i, s := range sources {
		answers = append(answers, answer[struct{}]{agent: f.agents[i], err: s.err})
	}
	_, err = answered(answers)
	return err
}

// openSources asks every agent. Their streams end with ctx at the latest.
func (a *app) openSources(ctx context.Context, f *fleet, req *agentv1.ObserveFlowsRequest) []*source {
	var sources []*source
	for _, agent := range f.agents {
		s := &source{node: agent.Node, events: make(chan *event, 64)}
		sources = append(sources, s)
		go func() {
			defer close(s.events)
			s.err = stream(ctx, agent, func(ctx context.Context, c *client.Client) error {
				return receive(ctx, c, req, func(msg *agentv1.ObserveFlowsResponse) error {
					select {
					case s.events <- newEvent(agent.Node, msg):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			})
		}()
	}
	return sources
}

// newEvent writes the node into the message: who reads JSON has nothing else.
func newEvent(node string, msg *agentv1.ObserveFlowsResponse) *event {
	if node != "" {
		msg.Node = node
		if f := msg.GetFlow(); f != nil {
			f.Node = node
		}
	}
	return &event{node: node, msg: msg}
}

// receive hands on one stream's messages until its end.
func receive(ctx context.Context, c *client.Client, req *agentv1.ObserveFlowsRequest, do func(*agentv1.ObserveFlowsResponse) error) error {
	messages, err := c.ObserveFlows(ctx, req)
	if err != nil {
		return err
	}
	for {
		msg, err := messages.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(msg)
		}
		if err != nil {
			return err
		}
	}
}

// mergeSources shows what has the earliest time, until all have ended.
func mergeSources(sources []*source, show func(*event) error) error {
	next := func(s *source) error {
		for s.head = nil; ; {
			e, ok := <-s.events
			if !ok {
				return nil
			}
			if e.msg.GetFlow() != nil {
				s.head = e
				return nil
			}
			if err := show(e); err != nil { // a loss has no time
				return err
			}
		}
	}
	for _, s := range sources {
		if err := next(s); err != nil {
			return err
		}
	}
	for {
		var first *source
		for _, s := range sources {
			if s.head != nil && (first == nil || s.head.time().Before(first.head.time())) {
				first = s
			}
		}
		if first == nil {
			return nil
		}
		if err := show(first.head); err != nil {
			return err
		}
		if err := next(first); err != nil {
			return err
		}
	}
}

// tail shows the last n flows, once it is told that there are no more.
func tail(n int, show func(*event) error) (keep func(*event) error, flush func() error) {
	var last []*event
	return func(e *event) error {
			if e.msg.GetFlow() == nil {
				return show(e)
			}
			if len(last) == n {
				last = last[1:]
			}
			last = append(last, e)
			return nil
		}, func() error {
			for _, e := range last {
				if err := show(e); err != nil {
					return err
				}
			}
			return nil
		}
}

// voice lets one at a time speak to standard error.
type voice struct {
	mu sync.Mutex
	w  io.Writer
}

func (v *voice) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.w.Write(p)
}
