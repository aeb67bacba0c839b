// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/pkg/model"
)

// Source is the kernel's ring buffer of flow events.
type Source interface {
	// ReadFlow returns the next record, good until the next call. When there is
	// none it waits until the deadline and fails with os.ErrDeadlineExceeded;
	// once the source is closed it fails with os.ErrClosed. Where the programs
	// wake nobody up, records are found only when the deadline passes.
	ReadFlow(deadline time.Time) ([]byte, error)
	// LostFlows is how many events the kernel had no room for, ever.
	LostFlows() (uint64, error)
}

// Config is what a Pipeline is made of.
type Config struct {
	Source Source
	Names  func() Names // the current snapshot; never nil
	Store  *Store
	Clock  Clock // SystemClock
	Log    *slog.Logger
}

// Pipeline carries events from the kernel into the store.
type Pipeline struct {
	cfg      Config
	seen     [model.FlowAudit + 1]atomic.Uint64
	bad      atomic.Uint64
	lost     atomic.Uint64
	lostRead time.Time // when Source.LostFlows was last read
}

// NewPipeline makes a pipeline that does nothing before Run.
func NewPipeline(cfg Config) *Pipeline {
	if cfg.Clock == nil {
		cfg.Clock = SystemClock
	}
	return &Pipeline{cfg: cfg}
}

const (
	// pollEvery bounds how late a flow is shown: a batch is stored when it is
	// full or this old.
	pollEvery = 50 * time.Millisecond
	// lossEvery is how often the kernel's counter of lost events is read.
	lossEvery = time.Second
	// pipelineBatch bounds how many events share a snapshot and a clock reading.
	pipelineBatch = 512
)

// Run moves events until the context ends or the source is closed, then returns
// nil; any other error of the source ends it, too.
func (p *Pipeline) Run(ctx context.Context) error {
	events := make([]Event, 0, pipelineBatch)
	for ctx.Err() == nil {
		var err error
		events, err = p.collect(events[:0])
		if addErr := p.add(events); addErr != nil {
			return addErr
		}
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("reading flow events: %w", err)
		}
	}
	return nil
}

// collect reads until there are no more events, at most one batch.
func (p *Pipeline) collect(events []Event) ([]Event, error) {
	deadline := time.Now().Add(pollEvery)
	for len(events) < pipelineBatch {
		raw, err := p.cfg.Source.ReadFlow(deadline)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		e, err := Decode(raw)
		if err != nil {
			p.bad.Add(1)
			p.cfg.Log.Warn("flow event is not understood", "error", err)
			continue
		}
		p.seen[e.Type].Add(1)
		events = append(events, e)
	}
	return events, nil
}

func (p *Pipeline) add(events []Event) error {
	lost := p.countLost()
	if len(events) == 0 {
		p.cfg.Store.Add(nil, lost)
		return nil
	}
	wall, monotonic, err := p.cfg.Clock()
	if err != nil {
		return err
	}
	names := p.cfg.Names()
	flows := make([]*model.Flow, len(events))
	for i := range events {
		flows[i] = Enrich(&events[i], wallTime(events[i].Monotonic, wall, monotonic), names)
	}
	p.cfg.Store.Add(flows, lost)
	return nil
}

// countLost is how many more events the kernel lost since the last call. A
// counter that cannot be read is asked again next time.
func (p *Pipeline) countLost() uint64 {
	if time.Since(p.lostRead) < lossEvery {
		return 0
	}
	p.lostRead = time.Now()
	before := p.lost.Load()
	total, err := p.cfg.Source.LostFlows()
	if err != nil || total <= before {
		return 0
	}
	p.lost.Store(total)
	return total - before
}

// Counters is what has passed so far.
type Counters struct {
	Seen      map[model.FlowType]uint64 // events read, by type
	Malformed uint64                    // records that were not understood
	Lost      uint64                    // events that the kernel had no room for
	Stored    uint64                    // flows held at present
}

// Total is the number of events read, of every type.
func (c Counters) Total() uint64 {
	var n uint64
	for _, seen := range c.Seen {
		n += seen
	}
	return n
}

// Counters may be called at any time, from any goroutine.
func (p *Pipeline) Counters() Counters {
	c := Counters{
		Seen:      make(map[model.FlowType]uint64, len(p.seen)),
		Malformed: p.bad.Load(), Lost: p.lost.Load(), Stored: uint64(p.cfg.Store.Len()),
	}
	for t := model.FlowNew; t <= model.FlowAudit; t++ {
		c.Seen[t] = p.seen[t].Load()
	}
	return c
}
