// SPDX-License-Identifier: Apache-2.0

package envoys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/model"
)

// Pods are the Envoys that run in pods: one, or two while one replaces the other, each
// with a block of ports. They come by themselves.
type Pods struct {
	kernel Kernel
	path   Path
	root   string // of the control groups

	mu     sync.Mutex
	active bool
	blocks [model.ProxyBlocks]tenant
	prefer uint8
	fault  error // why the last one that called is not let in
	failed time.Time
}

// callsAgain is how long an Envoy that was not let in takes at most to call again.
const callsAgain = time.Minute

// tenant is who called last for a block; zero: nobody since this agent began.
type tenant struct {
	group   string // folder
	started int64
}

// leaving is when an Envoy that is about to end counts as started: before all others.
const leaving = 1

// NewPods begins with what the kernel prefers. What it knows of groups stays, until who
// is in them calls.
func NewPods(k Kernel, p Path, root string) (*Pods, error) {
	prefer, err := k.PreferredBlock()
	return &Pods{kernel: k, path: p, root: root, prefer: prefer}, err
}

// Admit makes the kernel know the group of an Envoy, before that is told to listen, and
// has new connections go to the other one when it is leaving.
func (p *Pods) Admit(e bootstrap.Proxy) error {
	group, err := cgroup.PodFolder(p.root, e.Pod)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		if e.Leaving {
			e.Started = leaving
		}
		err = p.enter(e.Block, tenant{group: group, started: e.Started})
	}
	p.fault, p.failed = err, time.Now()
	return err
}

// enter is called with the lock held.
func (p *Pods) enter(block uint8, t tenant) error {
	blocks := p.blocks
	blocks[block] = t
	next := preferred(p.prefer, blocks)
	if p.active {
		if err := p.kernel.SetProxy(row(blocks, next)); err != nil {
			return err
		}
	}
	p.blocks, p.prefer = blocks, next
	return nil
}

// preferred is the block of the Envoy that was started last. Of who has not called since
// this agent began that is not known, so the choice stays that was made before; where
// nobody listens in the preferred block, the kernel takes the other one by itself.
func preferred(now uint8, blocks [model.ProxyBlocks]tenant) uint8 {
	other := 1 - now
	if blocks[now].started != 0 && blocks[other].started > blocks[now].started {
		return other
	}
	return now
}

// row leaves groups out that are gone: of their numbers there is no other.
func row(blocks [model.ProxyBlocks]tenant, prefer uint8) model.Proxy {
	out := model.Proxy{Prefer: prefer, Active: true}
	for block, t := range blocks {
		if _, err := os.Stat(t.group); t.group != "" && !errors.Is(err, os.ErrNotExist) {
			out.Cgroups[block] = t.group
		}
	}
	return out
}

// Set says whether rulesets are in force, or connections have some.
func (p *Pods) Set(active bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if active {
		if err := errors.Join(p.path.Set(true), p.kernel.SetProxy(row(p.blocks, p.prefer))); err != nil {
			return err
		}
	} else if err := errors.Join(p.kernel.SetProxy(model.Proxy{}), p.path.Set(false)); err != nil {
		return err
	}
	p.active = active
	return nil
}

// Changed changes nothing: who runs them is not the agent.
func (p *Pods) Changed() {}

// Run has nothing to do.
func (p *Pods) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// State tells which Envoys are connected, or why one is not let in.
func (p *Pods) State(connected []server.Session) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil && time.Since(p.failed) < callsAgain {
		return "", fmt.Errorf("one that calls is not let in: %w", p.fault)
	}
	var out []string
	for _, s := range connected {
		text := fmt.Sprintf("that of pod %s has block %d of ports", s.Pod, s.Block)
		if s.Block == p.prefer && len(connected) > 1 {
			text += " and new connections"
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "none is connected", nil
	}
	return strings.Join(out, "; "), nil
}
