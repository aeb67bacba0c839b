// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	stackLimit = 512 // MAX_BPF_STACK, over a whole chain of calls
	stackStep  = 32  // to which kernels before 6.8 round each function's part up
)

// Newer kernels round a function's part of the stack up to 16 bytes only, so that
// loading here does not show that a program loads on an older one.
func TestStacksFitOlderKernels(t *testing.T) {
	spec, _ := configured(t, func(c *weftbpf.BpfWeftConfig) { // all that there is, though never at once
		c.TunnelPort = vxlanPort
		direct(c)
	})
	coll, err := ebpf.NewCollectionWithOptions(spec.Copy(), ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for name, prog := range coll.Programs {
		g := readCalls(spec.Programs[name].Instructions)
		parts, err := stackParts(prog.VerifierLog)
		// Dead but while conntrack moves, and then removed before the verifier tells.
		for at, name := range g.names {
			if (name == "weft_old_fetch" || name == "weft_leg_fetch") && at <= len(parts) {
				parts = slices.Insert(parts, at, g.frames[at])
			}
		}
		if err != nil || len(parts) != len(g.names) {
			t.Errorf("%s: %d functions %v, but of the stack %v, %v", name, len(g.names), g.names, parts, err)
			continue
		}
		if depth, chain := g.deepest(0, parts); depth > stackLimit {
			t.Errorf("%s: %d bytes of stack on kernels before 6.8: %s", name, depth, chain)
		}
	}
}

// calls are the functions of a program in their order, whom each calls, and what of
// the stack its instructions name.
type calls struct {
	names  []string
	to     [][]string
	frames []int
}

func readCalls(instructions asm.Instructions) (c calls) {
	for _, ins := range instructions {
		if name := ins.Symbol(); name != "" {
			c.names, c.to, c.frames = append(c.names, name), append(c.to, nil), append(c.frames, 0)
		}
		if last := len(c.to) - 1; ins.IsFunctionReference() {
			c.to[last] = append(c.to[last], ins.Reference())
		}
		c.frames[len(c.frames)-1] = max(c.frames[len(c.frames)-1], inFrame(ins))
	}
	return c
}

// inFrame is how deep in its function's frame an instruction reaches, or may reach: a
// small number that is taken away is taken from the frame's end.
func inFrame(ins asm.Instruction) int {
	class := ins.OpCode.Class()
	switch {
	case class.IsLoad() && ins.Src == asm.RFP, class.IsStore() && ins.Dst == asm.RFP:
		return -int(ins.Offset)
	case class.IsALU() && ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && ins.Constant >= -stackLimit:
		return -int(ins.Constant)
	}
	return 0
}

// deepest is the stack below and with a function, and the chain of calls that needs it.
func (c calls) deepest(at int, parts []int) (depth int, chain string) {
	for _, callee := range c.to[at] {
		for i, name := range c.names {
			if name != callee {
				continue
			}
			if d, below := c.deepest(i, parts); d > depth {
				depth, chain = d, " → "+below
			}
		}
	}
	own := (max(parts[at], 1) + stackStep - 1) / stackStep * stackStep
	return depth + own, fmt.Sprintf("%s %d%s", c.names[at], own, chain)
}

// stackParts reads what the verifier says of each function.
func stackParts(log string) (parts []int, err error) {
	_, rest, found := strings.Cut(log, "stack depth ")
	if !found {
		return nil, fmt.Errorf("the verifier does not tell the stack: %q", log)
	}
	line, _, _ := strings.Cut(rest, "\n")
	for _, part := range strings.Split(strings.Fields(line)[0], "+") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, err
		}
		parts = append(parts, n)
	}
	return parts, nil
}
