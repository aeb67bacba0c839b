// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/weftmesh/weft/agent/engine"
	"github.com/weftmesh/weft/pkg/state"
)

// patience is how long rows may fail on a node that has once been proven before it
// counts as not ready: they are tried again, and what is in force stays meanwhile.
const patience = time.Minute

// proof tells whether this node's datapath works.
type proof struct {
	waiting  func() string // what the source waits for
	realized *engine.Realized
	dp       interface{ Prove(host []netip.Addr) error }
	tables   *state.Tables
	tunnel   func() error // what the tunnel lacks; nil: there is none

	mu      sync.Mutex
	proven  bool
	failing time.Time // since when rows fail; zero: none does
}

// ready is nil once the first whole state is in the kernel and its programs have
// shown that they work, and while they do.
func (p *proof) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.waiting(); w != "" {
		return errors.New(w)
	}
	if err := p.rows(); err != nil {
		return err
	}
	if p.tunnel != nil {
		if err := p.tunnel(); err != nil {
			return fmt.Errorf("the tunnel to other nodes does not work: %w", err)
		}
	}
	var host []netip.Addr
	if !p.proven {
		host = p.tables.HostAddrs()
	}
	if err := p.dp.Prove(host); err != nil {
		return fmt.Errorf("the datapath does not do what it should: %w", err)
	}
	p.proven = true
	return nil
}

// rows tells whether the kernel has what it should.
func (p *proof) rows() error {
	desired, _ := p.realized.Revisions()
	failing := p.realized.Failing()
	if desired == 0 {
		return errors.New("the kernel has not been given the first state yet")
	}
	if len(failing) == 0 {
		p.failing = time.Time{}
		return nil
	}
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
	if p.proven && time.Since(p.failing) < patience {
		return nil
	}
	n := 0
	for _, errs := range failing {
		n += len(errs)
	}
	for kind, errs := range failing {
		return fmt.Errorf("%s not in the kernel, of kind %s: %w", countOf(n, "row"), kind, errs[0])
	}
	return nil
}
