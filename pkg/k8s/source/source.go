// SPDX-License-Identifier: Apache-2.0

// Package source is the source of a node in Kubernetes: it watches the API server
// and hands on what changes.
//
//	reflectors (client-go) ─objects→ feed: convert at arrival ─changes→ batch ─one transaction→ Consumer
//
// Objects are converted as they arrive and not kept: what is remembered of each is
// its name. Nothing is handed on before every kind has had its first whole list; from
// then on an API server that is away changes nothing, and the list after an outage is
// handed on as what differs from before.
package source

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"

	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/state"
)

const (
	// gather is how long changes that follow each other are gathered.
	gather = 5 * time.Millisecond
	// retryApply is waited after the consumer failed.
	retryApply = time.Second
	// firstRetry and lastRetry bound the time between two attempts to reach the API
	// server.
	firstRetry = 200 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Consumer is given what changes. Its methods are called from one goroutine.
type Consumer interface {
	// Apply enters changes; after an error they come again, with what came since.
	Apply(state.Changes) error
	// Report replaces the list of objects with faults, which is sorted.
	Report([]Problem)
}

// Config is what a Source works with.
type Config struct {
	Client *k8s.Client
	Node   string // of whose pods it tells
	Log    *slog.Logger
	// Failed counts a list or watch that failed, by kind.
	Failed func(kind string)
}

// Source watches an API server.
type Source struct {
	cfg      Config
	consumer Consumer
	kinds    []kind
	batch    *batch
	outage   *outage
}

// New makes a source; Run does the work.
func New(cfg Config, consumer Consumer) *Source {
	return newSource(cfg, consumer, kinds(cfg.Client, cfg.Node))
}

func newSource(cfg Config, consumer Consumer, kinds []kind) *Source {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return &Source{cfg: cfg, consumer: consumer, kinds: kinds, batch: newBatch(names), outage: newOutage(cfg.Log, cfg.Failed)}
}

// Run watches until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, k := range s.kinds {
		backoff := wait.Backoff{Duration: firstRetry, Cap: lastRetry, Steps: 20, Factor: 2, Jitter: 1}
		reflector := cache.NewReflectorWithOptions(s.outage.watched(k), k.example, newFeed(k, s.batch), cache.ReflectorOptions{
			Name: k.name, Backoff: &backoff,
		})
		g.Go(func() error {
			reflector.RunWithContext(ctx)
			return ctx.Err()
		})
	}
	g.Go(func() error { return s.handOn(ctx) })
	if err := g.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// Waiting says what the first state still waits for; "" once it was handed on.
func (s *Source) Waiting() string {
	missing := s.batch.missing()
	if len(missing) == 0 {
		return ""
	}
	text := fmt.Sprintf("the API server has not told all objects of kind %s yet", missing[0])
	if err := s.outage.last(); err != nil {
		text += ": " + err.Error()
	}
	return text
}

// Outage is why the API server cannot be heard now, or nil.
func (s *Source) Outage() error { return s.outage.last() }

// handOn hands changes to the consumer, those that come in a burst together.
func (s *Source) handOn(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.batch.changed:
		}
		pause := gather
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			if s.flush() {
				break
			}
			pause = retryApply
		}
	}
}

// flush tells whether what there is was taken.
func (s *Source) flush() bool {
	changes, problems, n := s.batch.take()
	if problems != nil {
		s.report(*problems)
	}
	if n == 0 && !changes.Synced {
		return true
	}
	if err := s.consumer.Apply(changes); err != nil {
		s.batch.giveBack()
		s.cfg.Log.Error("what the API server said was not taken", "error", err, "retry", retryApply)
		return false
	}
	s.batch.taken()
	if changes.Synced {
		s.cfg.Log.Info("the API server has told its first whole state", "objects", n)
	}
	return true
}

// report logs each problem when it appears.
func (s *Source) report(p problems) {
	for _, news := range p.fresh {
		s.cfg.Log.Error("fault in an object", "problem", news.String(), "effect", news.Effect())
	}
	s.consumer.Report(p.all)
}
