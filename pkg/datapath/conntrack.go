// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// GCStats is what a collection found.
type GCStats struct {
	Answered   uint64 // flows left that were answered
	Unanswered uint64 // flows left that were not
	Expired    uint64 // flows removed
	Drops      uint64 // reports of drops flushed
	Translated uint64 // flows left that are translated
}

// sweep has every flow with an address in one of the prefixes decided again at
// its next packet.
func (d *Datapath) sweep(prefixes []netip.Prefix) error {
	for chunk := range slices.Chunk(prefixes, len(weftbpf.BpfWeftSweep{}.Prefix)) {
		arg := weftbpf.BpfWeftSweep{Count: uint32(len(chunk))}
		for i, prefix := range chunk {
			arg.Prefix[i] = sweepPrefix(prefix)
		}
		if err := runSyscall(d.progs.WeftCtSweep, &arg); err != nil {
			return fmt.Errorf("marking flows to be decided again: %w", err)
		}
	}
	return nil
}

// finishSweep does what an agent that was killed between the change of an
// address and the sweep of its flows left undone.
func (d *Datapath) finishSweep() error {
	if _, err := os.Stat(d.pins.unsweptDir()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.sweep(everyAddress()); err != nil {
		return err
	}
	return d.pins.markSwept()
}

func everyAddress() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	}
}

func sweepPrefix(p netip.Prefix) weftbpf.BpfWeftSweepPrefix {
	p = p.Masked()
	if !p.Addr().Is4() {
		return weftbpf.BpfWeftSweepPrefix{Addr: p.Addr().As16(), Family: 6, Bits: uint8(p.Bits())}
	}
	out := weftbpf.BpfWeftSweepPrefix{Family: 4, Bits: uint8(p.Bits())}
	copy(out.Addr[:], p.Addr().AsSlice())
	return out
}

// CollectGarbage removes flows whose time is over, reports on long-lived ones,
// and flushes the tails of drop floods. The agent calls it every few seconds.
func (d *Datapath) CollectGarbage() (GCStats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var arg weftbpf.BpfWeftGc
	for part := range weftbpf.BpfWeftGcPartWEFT_GC_PARTS {
		arg.Part = uint32(part)
		if err := runSyscall(d.progs.WeftCtGc, &arg); err != nil {
			return GCStats{}, fmt.Errorf("collecting ended flows: %w", err)
		}
	}
	var nat weftbpf.BpfWeftNatgc
	if err := runSyscall(d.progs.WeftNatGc, &nat); err != nil {
		return GCStats{}, fmt.Errorf("collecting translated flows: %w", err)
	}
	d.tracked = GCStats{Translated: nat.Live, Answered: arg.Live, Unanswered: arg.Pending, Expired: arg.Expired, Drops: arg.Drops}
	return d.tracked, nil
}

// Tracked is what the last collection found; zero before the first.
func (d *Datapath) Tracked() GCStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tracked
}

// runSyscall runs a program with an argument that it may change.
func runSyscall[T any](prog *ebpf.Program, arg *T) error {
	code, err := prog.Run(&ebpf.RunOptions{Context: arg, ContextOut: arg})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("the program returned %d", int32(code))
	}
	return nil
}
