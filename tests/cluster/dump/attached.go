// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Attached writes a line for each program that is on a device by tcx (kernel 6.6).
func Attached(w io.Writer) error {
	devices, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing devices: %w", err)
	}
	for _, d := range devices {
		for side, at := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
			on, err := link.QueryPrograms(link.QueryOptions{Target: d.Index, Attach: at})
			if errors.Is(err, link.ErrNotSupported) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("asking for programs on %s: %w", d.Name, err)
			}
			for _, p := range on.Programs {
				fmt.Fprintf(w, "%s %s %s\n", d.Name, side, programName(p.ID))
			}
		}
	}
	return nil
}

func programName(id ebpf.ProgramID) string {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprint(id) // it has just gone
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprint(id)
	}
	return info.Name
}
