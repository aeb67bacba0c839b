// SPDX-License-Identifier: Apache-2.0

//go:build weft_progalt && !weft_ctalt

package datapath

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// conntrackVersion is the layout of struct weft_ct and its keys.
const conntrackVersion = 1

// loadObject is that of a build for tests: the same programs with another tag,
// as those of another release would have. Each begins with one harmless
// instruction more, which takes over what is noted at the program's beginning.
func loadObject() (*ebpf.CollectionSpec, error) {
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		return nil, err
	}
	for _, prog := range spec.Programs {
		if prog.Type == ebpf.Tracing {
			continue // an iterator: nothing of it outlives the agent; and its beginning may be relocated
		}
		first := asm.Mov.Imm(asm.R0, 0)
		first.Metadata = prog.Instructions[0].Metadata
		prog.Instructions[0].Metadata = asm.Metadata{}
		prog.Instructions = append(asm.Instructions{first}, prog.Instructions...)
	}
	return spec, nil
}
