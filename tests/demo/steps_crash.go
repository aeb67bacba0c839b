// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// load is what runs while the agent is away: a transfer, requests on one
// connection, and new connections, from client to frontend in each family.
type load struct {
	stage   *stage
	streams []*sandbox.Stream
	loops   []*sandbox.Loop
}

func (s *stage) startLoad() (*load, error) {
	l := &load{stage: s}
	client := s.pods["client"].NS
	for _, addr := range s.addrs("frontend") {
		st, err := sandbox.StartStream(sandbox.StreamConfig{NS: client, Addr: addr, Every: time.Millisecond})
		if err != nil {
			return nil, err
		}
		l.streams = append(l.streams, st)
		for _, fresh := range []bool{false, true} {
			l.loops = append(l.loops, sandbox.StartLoop(sandbox.LoopConfig{NS: client, Network: "tcp", Addr: addr,
				Every: 5 * time.Millisecond, Timeout: s.within(5 * time.Second), Fresh: fresh}))
		}
	}
	return l, nil
}

// whole tells whether nothing failed so far.
func (l *load) whole() error {
	for _, st := range l.streams {
		if err := st.Progress().Err; err != nil {
			return fmt.Errorf("a transfer broke: %w", err)
		}
	}
	for _, loop := range l.loops {
		if failed := loop.Report().Failed; len(failed) > 0 {
			return fmt.Errorf("%d requests failed, the first: %w", len(failed), failed[0].Err)
		}
	}
	return nil
}

// sum is the requests answered, the bytes moved, and the longest pause of any.
func (l *load) sum() (requests int, bytes uint64, pause time.Duration) {
	for _, st := range l.streams {
		p := st.Progress()
		bytes += p.Echoed
		pause = max(pause, p.Gap)
	}
	for _, loop := range l.loops {
		r := loop.Report()
		requests += r.Done
		pause = max(pause, r.Gap)
	}
	return requests, bytes, pause
}

// goOn waits until everything has done some more.
func (l *load) goOn(ctx context.Context, requests int, bytes uint64) error {
	if err := l.stage.moving(ctx, l.streams, time.Now(), bytes); err != nil {
		return err
	}
	begin := make([]int, len(l.loops))
	for i, loop := range l.loops {
		begin[i] = loop.Report().Done
	}
	return sandbox.Eventually(ctx, l.stage.within(10*time.Second), "requests going on", func() error {
		for i, loop := range l.loops {
			if done := loop.Report().Done - begin[i]; done < requests {
				return fmt.Errorf("%d of %d requests", done, requests)
			}
		}
		return nil
	})
}

func (s *stage) agentKilled(ctx context.Context) (string, error) {
	l, err := s.startLoad()
	if err != nil {
		return "", err
	}
	s.load = l
	if err := l.goOn(ctx, 50, 1<<20); err != nil {
		return "", err
	}
	requests, bytes, _ := l.sum()
	if err := s.current().Kill(); err != nil {
		return "", err
	}
	if out, err := s.weft(ctx, "status", "--timeout", "1s"); err == nil {
		return "", fmt.Errorf("an agent still answers: %s", out)
	}
	if err := l.goOn(ctx, 100, 8<<20); err != nil {
		return "", err
	}
	if err := l.whole(); err != nil {
		return "", err
	}
	if err := s.refused("intruder", "frontend"); err != nil {
		return "", fmt.Errorf("without the agent: %w", err)
	}
	r, b, _ := l.sum()
	return fmt.Sprintf("%d requests and %d MiB without it, none failed; the intruder is still out", r-requests, (b-bytes)>>20), nil
}

func (s *stage) agentReturns(ctx context.Context) (string, error) {
	a, err := s.startAgent()
	if err != nil {
		return "", err
	}
	begin := time.Now()
	status, err := a.Ready(ctx, s.within(20*time.Second))
	if err != nil {
		return "", err
	}
	back := time.Since(begin)
	if got, want := int(status.GetEndpoints()), len(s.pods); got != want {
		return "", fmt.Errorf("the agent knows %d endpoints, there are %d", got, want)
	}
	if err := s.load.goOn(ctx, 50, 1<<20); err != nil {
		return "", err
	}
	if err := s.load.whole(); err != nil {
		return "", err
	}
	requests, bytes, pause := s.load.sum()
	for _, st := range s.load.streams {
		st.Stop()
	}
	for _, loop := range s.load.loops {
		loop.Stop()
	}
	if err := s.attach(ctx, "latecomer"); err != nil {
		return "", err
	}
	if err := s.ask("tcp", "latecomer", "frontend"); err != nil {
		return "", err
	}
	return fmt.Sprintf("ready after %d ms, a new pod works; over the crash and the return %d requests and %d MiB, "+
		"none failed, longest pause %d ms", back.Milliseconds(), requests, bytes>>20, pause.Milliseconds()), nil
}
