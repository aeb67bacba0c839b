// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weftmesh/weft/tests/rounds"
)

// repeated is a packet that a program gets many times in one call. A repeat finds
// the packet as the last one left it, so a small program in front writes it anew,
// each time with the next of a number of ports, and goes on to the program by a
// tail call. The same in front of an empty program tells what that adds.
type repeated struct {
	name   string
	ctx    skb
	count  uint32
	front  *ebpf.Program // leads to the program that is measured
	hollow *ebpf.Program // leads to the empty program
	frame  []byte
}

const (
	hotRepeats = 5_000
	manyFlows  = 10_000
	benchTurns = 60
)

// repeat prepares a packet that is always the same. The program is at the hook
// of that type.
func (n *node) repeat(name string, prog *ebpf.Program, hook ebpf.AttachType, ctx skb, frame []byte) *repeated {
	n.Helper()
	return n.rotate(name, prog, hook, ctx, frame, 0, hotRepeats)
}

// rotate prepares one whose port at portAt is 1 to count in turn; 0: it stays.
func (n *node) rotate(name string, prog *ebpf.Program, hook ebpf.AttachType, ctx skb, frame []byte, portAt int, count uint32) *repeated {
	n.Helper()
	r := &repeated{name: name, ctx: ctx, frame: frame, count: count}
	r.front = n.inFront(prog, hook, frame, portAt, count)
	r.hollow = n.inFront(n.empty(hook), hook, frame, portAt, count)
	return r
}

func (n *node) newMap(spec *ebpf.MapSpec) *ebpf.Map {
	n.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { _ = m.Close() })
	return m
}

func (n *node) program(hook ebpf.AttachType, code asm.Instructions) *ebpf.Program {
	n.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, AttachType: hook, License: "Dual BSD/GPL", Instructions: code})
	if err != nil {
		n.Fatalf("%+v", err)
	}
	n.Cleanup(func() { _ = p.Close() })
	return p
}

// empty does nothing: what it costs, every program does.
func (n *node) empty(hook ebpf.AttachType) *ebpf.Program {
	n.Helper()
	return n.program(hook, asm.Instructions{asm.Mov.Imm(asm.R0, actOK), asm.Return()})
}

// inFront makes the program that writes the packet and goes on.
func (n *node) inFront(prog *ebpf.Program, hook ebpf.AttachType, frame []byte, portAt int, count uint32) *ebpf.Program {
	n.Helper()
	last := n.newMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}) // port
	next := n.newMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	n.put(next, uint32(0), prog)
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, last.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R7, asm.R0, 0, asm.Word),
		asm.Add.Imm(asm.R7, 1),
		asm.JLE.Imm(asm.R7, int32(count), "noted"),
		asm.Mov.Imm(asm.R7, 1),
		asm.StoreMem(asm.R0, 0, asm.R7, asm.Word).WithSymbol("noted"),
		asm.LoadMem(asm.R8, asm.R6, 76, asm.Word), // data
		asm.LoadMem(asm.R9, asm.R6, 80, asm.Word), // data_end
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.Add.Imm(asm.R2, int32(len(frame))),
		asm.JGT.Reg(asm.R2, asm.R9, "out"),
	}
	at := 0
	for ; at+8 <= len(frame); at += 8 {
		code = append(code, asm.LoadImm(asm.R1, int64(binary.NativeEndian.Uint64(frame[at:])), asm.DWord),
			asm.StoreMem(asm.R8, int16(at), asm.R1, asm.DWord))
	}
	for ; at < len(frame); at++ {
		code = append(code, asm.StoreImm(asm.R8, int16(at), int64(frame[at]), asm.Byte))
	}
	if portAt != 0 {
		code = append(code, asm.HostTo(asm.BE, asm.R7, asm.Half), asm.StoreMem(asm.R8, int16(portAt), asm.R7, asm.Half))
	}
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, next.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, actShot).WithSymbol("out"),
		asm.Return(),
	)
	return n.program(hook, code)
}

// packet gives nanoseconds a packet, without what the program in front takes.
func (r *repeated) packet(tb testing.TB, empty *ebpf.Program) float64 {
	tb.Helper()
	return r.timed(tb, r.front, r.count) - r.timed(tb, r.hollow, r.count) + r.timed(tb, empty, r.count)
}

func (r *repeated) timed(tb testing.TB, prog *ebpf.Program, count uint32) float64 {
	tb.Helper()
	start := time.Now()
	if _, err := prog.Run(&ebpf.RunOptions{Data: r.frame, Context: r.ctx, Repeat: count}); err != nil {
		tb.Fatal(err)
	}
	return float64(time.Since(start).Nanoseconds()) / float64(count)
}

// once gives the packet a single time, to see that it goes where it should.
func (r *repeated) once(tb testing.TB) (verdict uint32, frame []byte) {
	tb.Helper()
	opts := &ebpf.RunOptions{Data: r.frame, DataOut: make([]byte, len(r.frame)+64), Context: r.ctx, Repeat: 1}
	verdict, err := r.front.Run(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return verdict, opts.DataOut
}

// compare measures all of them in rounds, and reports each and the empty program.
func compare(b *testing.B, n *node, all ...*repeated) {
	b.Helper()
	empty := n.empty(ebpf.AttachTCXIngress)
	var sides []rounds.Side
	for _, r := range all {
		sides = append(sides, rounds.Side{Name: r.name, Measure: func(tb testing.TB) float64 { return r.packet(tb, empty) }})
	}
	reportAll(b, append(sides, floor(all[0], empty)))
}

// floor is what the empty program costs.
func floor(r *repeated, empty *ebpf.Program) rounds.Side {
	return rounds.Side{Name: "empty_program", Measure: func(tb testing.TB) float64 { return r.timed(tb, empty, hotRepeats) }}
}

func reportAll(b *testing.B, sides []rounds.Side) {
	b.Helper()
	medians := rounds.Medians(b, benchTurns, sides)
	for _, s := range sides {
		rounds.Report(b, s.Name, medians[s.Name], "ns/packet")
	}
}
