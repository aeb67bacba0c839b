// SPDX-License-Identifier: Apache-2.0

// Package load asks at a fixed rate, whatever becomes of what was asked before:
// each request has a time at which it is due, and what it took counts from there,
// so that a stall is seen by all requests that fell into it.
package load

import (
	"slices"
	"sync"
	"time"
)

// Config says what is asked, and how often.
type Config struct {
	Rate    int                    // requests a second
	Workers int                    // how many requests may be on their way
	Ask     func(worker int) error // makes a request of a worker's and waits for its answer
}

// Failure is a request that was not answered as it should.
type Failure struct {
	At  time.Time
	Err error
}

// Report is what was seen so far.
type Report struct {
	Done    int
	Failed  []Failure
	Longest time.Duration // from when a request was due to its answer
}

// Load asks until Stop.
type Load struct {
	cfg  Config
	stop chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	next time.Time // when the next request is due
	rep  Report
}

// Start begins to ask.
func Start(cfg Config) *Load {
	l := &Load{cfg: cfg, stop: make(chan struct{}), next: time.Now()}
	for worker := range cfg.Workers {
		l.wg.Go(func() { l.work(worker) }) // until Stop
	}
	return l
}

// Stop waits for the requests that are on their way, and tells what was seen.
func (l *Load) Stop() Report {
	close(l.stop)
	l.wg.Wait()
	return l.Report()
}

// Report is what was seen so far.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rep
	r.Failed = slices.Clone(l.rep.Failed)
	return r
}

func (l *Load) work(worker int) {
	for {
		due := l.take()
		select {
		case <-l.stop:
			return
		case <-time.After(time.Until(due)):
		}
		l.note(due, l.cfg.Ask(worker))
	}
}

// take gives the time of the next request.
func (l *Load) take() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.next
	l.next = due.Add(time.Second / time.Duration(l.cfg.Rate))
	return due
}

func (l *Load) note(due time.Time, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.rep.Failed = append(l.rep.Failed, Failure{At: now, Err: err})
		return
	}
	l.rep.Done++
	l.rep.Longest = max(l.rep.Longest, now.Sub(due))
}
