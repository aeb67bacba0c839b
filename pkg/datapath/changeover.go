// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// putInUse carries over what is of another layout and puts the new programs on
// every device.
//
// Where conntrack itself moves, no flow may fall into a gap, neither one that
// the old programs enter after its table was copied, nor one that a new program
// enters on one device and whose answer meets an old program on another. So
// all devices cross at once, over bridges, to programs that also read the old
// tables; those give way to the final ones when everything is copied.
func (d *Datapath) putInUse(cfg Config, adopted *adoption) error {
	b, err := d.buildBridges(cfg, adopted)
	if err != nil {
		d.log.Warn("programs are replaced device by device, and a flow that begins meanwhile may be refused", "error", err)
	}
	if err := adopted.carryOver(); err != nil {
		return err
	}
	if b != nil {
		defer b.close()
		if err := b.cross(); err != nil {
			return err
		}
		if err := adopted.fetchRest(); err != nil {
			return err
		}
	}
	if err := d.replacePrograms(); err != nil {
		return fmt.Errorf("replacing the programs in use: %w", err)
	}
	if b == nil {
		if err := adopted.fetchRest(); err != nil {
			return err
		}
	}
	return errors.Join(adopted.removeOld(), os.RemoveAll(d.pins.bridgesDir()))
}

func (d *Datapath) replacePrograms() error {
	if err := d.attacher.replace(ownProgram); err != nil {
		return err
	}
	if err := d.attacher.takeOver(); err != nil {
		return err
	}
	if err := d.adoptProxy(); err != nil {
		return err
	}
	settle()
	return nil
}

// settle returns when no packet is in a program any more that met it before the
// call. The barrier waits for every CPU to leave its RCU reader (kernel 4.3;
// membarrier(2)); kernels with nohz_full refuse it, and get a pause that is far
// longer than a program runs.
func settle() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(20 * time.Millisecond)
	}
}

// bridges stand in the place of the programs in use, and lead to those (bank 0)
// or to the ones that take over (bank 1), all by one cell.
type bridges struct {
	pins  pins
	cell  *ebpf.Map
	over  *ebpf.Collection // the programs that also read the old tables
	built map[ebpf.ProgramID]*ebpf.Program
}

// buildBridges gives nil where conntrack does not move.
func (d *Datapath) buildBridges(cfg Config, adopted *adoption) (*bridges, error) {
	olds, err := adopted.oldTables()
	if err != nil || olds == nil {
		return nil, err
	}
	b := &bridges{pins: d.pins, built: make(map[ebpf.ProgramID]*ebpf.Program)}
	if err := b.build(cfg, adopted, olds, d.attacher); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bridges) build(cfg Config, adopted *adoption, olds *oldTables, att attacher) error {
	var err error
	if b.over, err = olds.load(cfg, adopted); err != nil {
		return fmt.Errorf("loading programs that read conntrack of another layout: %w", err)
	}
	b.cell, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "weft_cell", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1,
	})
	if err != nil {
		return fmt.Errorf("making the cell of the bridges: %w", err)
	}
	if err := os.MkdirAll(b.pins.bridgesDir(), 0o700); err != nil {
		return fmt.Errorf("making a directory for BPF pins: %w", err)
	}
	if err := att.replace(b.from); err != nil {
		return fmt.Errorf("putting bridges in place of the programs in use: %w", err)
	}
	if err := b.fromLookup(); err != nil {
		return fmt.Errorf("putting a bridge in place of the look-up of sockets: %w", err)
	}
	return nil
}

// cross leads all packets over to the new programs.
func (b *bridges) cross() error {
	if err := b.cell.Put(uint32(0), uint32(1)); err != nil {
		return fmt.Errorf("crossing to the new programs: %w", err)
	}
	settle()
	return nil
}

// from gives the bridge that starts at a program in use. Where none was in use
// there is nothing to lead from: the program that takes over comes at once.
func (b *bridges) from(s side, inUse ebpf.ProgramID) (*ebpf.Program, error) {
	if inUse == 0 {
		return b.over.Programs[s.name], nil
	}
	if built := b.built[inUse]; built != nil {
		return built, nil
	}
	old, err := ebpf.NewProgramFromID(inUse)
	if err != nil {
		return nil, fmt.Errorf("opening program %d: %w", inUse, err)
	}
	defer old.Close()
	return b.bridge(old, b.over.Programs[s.name], &ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: s.attach}, actShot)
}

// fromLookup has the host's look-ups of sockets cross at the same time: who finds the
// listener of a connection reads the conntrack that its SYN was just entered into.
func (b *bridges) fromLookup() error {
	l, err := link.LoadPinnedLink(filepath.Join(b.pins.socketsDir(), lookupPin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the pinned link: %w", err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("asking for its program: %w", err)
	}
	old, err := ebpf.NewProgramFromID(info.Program)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the network namespace that it was for is gone
	}
	if err != nil {
		return fmt.Errorf("opening program %d: %w", info.Program, err)
	}
	defer old.Close()
	bridge, err := b.bridge(old, b.over.Programs[lookupProgram], &ebpf.ProgramSpec{Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup}, skDrop)
	if err != nil {
		return err
	}
	if err := l.Update(bridge); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("updating the link: %w", err)
	}
	return nil
}

// bridge makes a program of a kind that leads to one or the other, and else gives a
// verdict.
func (b *bridges) bridge(old, over *ebpf.Program, kind *ebpf.ProgramSpec, otherwise int32) (*ebpf.Program, error) {
	inUse, err := old.Info()
	if err != nil {
		return nil, fmt.Errorf("asking for a program in use: %w", err)
	}
	id, _ := inUse.ID()
	banks, err := b.banks(old, over)
	if err != nil {
		return nil, err
	}
	defer banks.Close()
	bridge, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weft_bridge", Type: kind.Type, AttachType: kind.AttachType, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R3, b.cell.FD(), 0),
			asm.LoadMem(asm.R3, asm.R3, 0, asm.Word),
			asm.LoadMapPtr(asm.R2, banks.FD()),
			asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, otherwise),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("loading a bridge: %w", err)
	}
	b.built[id] = bridge
	return bridge, nil
}

const (
	actShot = 2 // TC_ACT_SHOT
	skDrop  = 0 // SK_DROP
)

// banks are the two programs that a bridge leads to. The kernel empties an array
// of programs when no process and no pin holds it any more: it is pinned, for an
// agent that is killed on the way.
func (b *bridges) banks(old, over *ebpf.Program) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "weft_banks", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 2,
	})
	if err != nil {
		return nil, fmt.Errorf("making an array of programs: %w", err)
	}
	for i, prog := range []*ebpf.Program{old, over} {
		if err := m.Put(uint32(i), prog); err != nil {
			m.Close()
			return nil, fmt.Errorf("entering %s into an array of programs: %w", prog, err)
		}
	}
	if err := b.pins.pinBanks(m); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (b *bridges) close() {
	for _, prog := range b.built {
		prog.Close()
	}
	if b.over != nil {
		b.over.Close()
	}
	if b.cell != nil {
		b.cell.Close()
	}
}

// bridgesDir holds the banks while devices change over. An agent that was killed
// then leaves some; they go when the next one has changed over.
func (p pins) bridgesDir() string { return filepath.Join(p.root, "bridges") }

func (p pins) pinBanks(m *ebpf.Map) error {
	for n := 0; ; n++ {
		err := m.Pin(filepath.Join(p.bridgesDir(), strconv.Itoa(n)))
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("pinning an array of programs: %w", err)
		}
		return nil
	}
}
