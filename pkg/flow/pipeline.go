// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// Source is the kernel's ring buffer of flow events.
type Source interface {
	// RunEvents calls fn with every event until the context ends, which is no
	// error. raw is good only during the call; fn must not block, or the ring
	// fills up.
	RunEvents(ctx context.Context, fn func(raw *weftbpf.BpfWeftFlow)) error
	// LostEvents is how many events the kernel had no room for, ever.
	LostEvents() (uint64, error)
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
	lost     atomic.Uint64 // in the kernel
	crowded  atomic.Uint64 // here: more than pendingMax at once
	lostSeen uint64        // of lost, already in the store; Run's alone

	mu      sync.Mutex
	pending []Event // taken from the kernel, not yet in the store
}

// NewPipeline makes a pipeline that does nothing before Run.
func NewPipeline(cfg Config) *Pipeline {
	if cfg.Clock == nil {
		cfg.Clock = SystemClock
	}
	return &Pipeline{cfg: cfg}
}

const (
	// flushEvery is how late a flow may be shown. A batch shares one snapshot and
	// one reading of the clocks, so that the reader of the ring does next to
	// nothing for an event.
	flushEvery = 50 * time.Millisecond
	// lossEvery is how often the kernel's counter of lost events is read.
	lossEvery = time.Second
	// pendingMax bounds the memory of a burst; what is more is counted as lost.
	pendingMax = 1 << 16
)

// Run moves events until the context ends, then returns nil; an error of the
// source ends it, too. The goroutine that it starts ends with the context, before
// Run returns.
func (p *Pipeline) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- p.cfg.Source.RunEvents(ctx, p.take) }()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	loss := time.NewTicker(lossEvery)
	defer loss.Stop()
	for {
		select {
		case err := <-ended:
			p.countLost()
			if flushErr := p.flush(); err == nil {
				err = flushErr
			}
			return err
		case <-loss.C:
			p.countLost()
		case <-flush.C:
			if err := p.flush(); err != nil {
				p.cfg.Log.Error("flow events are kept back", "error", err)
			}
		}
	}
}

// take is called for each event, by the reader of the ring.
func (p *Pipeline) take(raw *weftbpf.BpfWeftFlow) {
	e, err := fromKernel(raw)
	if err != nil {
		p.bad.Add(1)
		p.cfg.Log.Warn("flow event is not understood", "error", err)
		return
	}
	p.seen[e.Type].Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) >= pendingMax {
		p.crowded.Add(1)
		return
	}
	p.pending = append(p.pending, e)
}

// flush gives names to what was taken and stores it. When the clocks cannot be
// read all stays pending.
func (p *Pipeline) flush() error {
	wall, monotonic, err := p.cfg.Clock()
	if err != nil {
		return err
	}
	p.mu.Lock()
	events := p.pending
	p.pending = nil
	p.mu.Unlock()
	var flows []*model.Flow
	if len(events) > 0 {
		names := p.cfg.Names()
		flows = make([]*model.Flow, len(events))
		for i := range events {
			flows[i] = Enrich(&events[i], wallTime(events[i].Monotonic, wall, monotonic), names)
		}
	}
	lost := p.lostEver()
	p.cfg.Store.Add(flows, lost-p.lostSeen)
	p.lostSeen = lost
	return nil
}

// countLost reads the kernel's counter; if it cannot be read it is asked again
// next time.
func (p *Pipeline) countLost() {
	total, err := p.cfg.Source.LostEvents()
	if err == nil && total > p.lost.Load() {
		p.lost.Store(total)
	}
}

func (p *Pipeline) lostEver() uint64 { return p.lost.Load() + p.crowded.Load() }

// Counters is what has passed so far.
type Counters struct {
	Seen      map[model.FlowType]uint64 // events read, by type
	Malformed uint64                    // records that were not understood
	Lost      uint64                    // events that found no room, in the kernel or here
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
		Malformed: p.bad.Load(), Lost: p.lostEver(), Stored: uint64(p.cfg.Store.Len()),
	}
	for t := model.FlowNew; t <= model.FlowAudit; t++ {
		c.Seen[t] = p.seen[t].Load()
	}
	return c
}
