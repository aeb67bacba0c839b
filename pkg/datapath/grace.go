// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Bounds of graceWaits.
const (
	maxWaits  = 32     // each keeps a thread in the kernel
	lookAgain = 20_000 // ns; a write is done long before its call returns
)

// graceWaits are writes to maps of maps whose end nobody waits for. The kernel does
// such a write at once, but its call returns an RCU grace period later, some ten
// milliseconds: no program uses any more what the write replaced. Where it replaces
// nothing, nothing depends on that. The goroutines end by themselves; wait returns
// when they have.
type graceWaits struct {
	room chan struct{}
	all  sync.WaitGroup
}

func newGraceWaits() *graceWaits { return &graceWaits{room: make(chan struct{}, maxWaits)} }

// put puts a map into an empty place of an array of maps, and returns when programs
// find it there. Before 6.8 to look takes as long as to write.
func (g *graceWaits) put(outer *ebpf.Map, index uint32, inner *ebpf.Map) error {
	info, err := inner.Info()
	if err != nil {
		return fmt.Errorf("reading its number: %w", err)
	}
	own, ok := info.ID()
	if !ok {
		return outer.Put(index, inner)
	}
	result := g.start(func() error { return outer.Put(index, inner) })
	for {
		runtime.Gosched() // to the write
		var id ebpf.MapID
		if outer.Lookup(index, &id) == nil && id == own {
			return nil
		}
		select {
		case err := <-result:
			return err
		default: // timers of the runtime take a millisecond
			_ = unix.Nanosleep(&unix.Timespec{Nsec: lookAgain}, nil)
		}
	}
}

// start does a write on a thread of its own; the answer comes when its call returns.
func (g *graceWaits) start(write func() error) <-chan error {
	result := make(chan error, 1)
	g.room <- struct{}{}
	g.all.Go(func() {
		err := write()
		<-g.room
		result <- err
	})
	return result
}

func (g *graceWaits) wait() { g.all.Wait() }
