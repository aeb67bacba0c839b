// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// AttachMode says how programs come to a device.
type AttachMode uint8

// Modes of attachment.
const (
	AttachAuto   AttachMode = iota // tcx where the kernel has it, for pods by way of filters
	AttachTCX                      // links, kernel 6.6 and later
	AttachClsact                   // filters of a clsact qdisc
)

// String is the mode's name in the configuration.
func (m AttachMode) String() string {
	return [...]string{"auto", "tcx", "clsact"}[m]
}

// attacher puts both programs of a place on devices, in one of the kernel's ways.
type attacher interface {
	// replace puts what choose gives in place of each program of ours in use,
	// without a moment in which a device has none, and forgets devices that are
	// gone.
	replace(choose chooser) error
	// takeOver moves devices that are attached in another of the kernel's ways.
	takeOver() error
	// attach is idempotent; it returns when both programs are in place.
	attach(at place, ifindex uint32, ifname string) error
	// finish moves one device to where it is to stay, and tells how many are left.
	finish() (left int, err error)
	// detach of a device that has no programs, or is gone, succeeds.
	detach(at place, ifname string) error
	// attached lists the devices that have the programs of a place.
	attached(at place) ([]string, error)
}

// chooser gives the program to follow the one in use; 0: there is none.
type chooser func(s side, inUse ebpf.ProgramID) (*ebpf.Program, error)

// ownProgram chooses the side's own program.
func ownProgram(s side, _ ebpf.ProgramID) (*ebpf.Program, error) { return s.prog, nil }

// newAttacher settles the mode.
func newAttacher(mode AttachMode, p pins, progs *weftbpf.BpfPrograms, log *slog.Logger) (attacher, error) {
	if mode != AttachClsact {
		err := haveTCX()
		if err == nil {
			t := &tcxAttacher{pins: p, places: placesOf(progs), log: log, filtered: make(map[string]uint32)}
			if mode == AttachAuto {
				t.quick = &clsactAttacher{pins: p, places: t.places, log: log}
			}
			return t, nil
		}
		if mode == AttachTCX || !errors.Is(err, ebpf.ErrNotSupported) {
			return nil, fmt.Errorf("probing for tcx (6.6): %w", err)
		}
		log.Info("the kernel has no tcx; clsact filters are used instead")
	}
	return &clsactAttacher{pins: p, places: placesOf(progs), log: log}, nil
}

// side is one direction of a device, seen from the host.
type side struct {
	suffix string // of the pin
	attach ebpf.AttachType
	prog   *ebpf.Program
	name   string // of the program
	parent uint32 // of a clsact filter
}

// place is a kind of device.
type place uint8

const (
	atPod    place = iota // the host's side of a pod's device
	atUplink              // by which packets leave the cluster
	atTunnel              // of the tunnel between nodes
)

// places are the programs of each kind of device.
type places [3][2]side

func placesOf(progs *weftbpf.BpfPrograms) places {
	return places{
		atPod: {
			{"_in", ebpf.AttachTCXIngress, progs.WeftFromPod, "weft_from_pod", clsactIngress},
			{"_out", ebpf.AttachTCXEgress, progs.WeftToPod, "weft_to_pod", clsactEgress},
		},
		atUplink: {
			{"_netin", ebpf.AttachTCXIngress, progs.WeftFromNet, "weft_from_net", clsactIngress},
			{"_netout", ebpf.AttachTCXEgress, progs.WeftToNet, "weft_to_net", clsactEgress},
		},
		atTunnel: {
			{"_tunin", ebpf.AttachTCXIngress, progs.WeftFromVxlan, "weft_from_vxlan", clsactIngress},
			{"_tunout", ebpf.AttachTCXEgress, progs.WeftToVxlan, "weft_to_vxlan", clsactEgress},
		},
	}
}

// haveTCX tries to attach to a device that cannot exist.
func haveTCX() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weft_probe", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer prog.Close()
	_, err = link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	return nil
}

// Attach puts both programs on a pod's device. It is idempotent.
func (d *Datapath) Attach(ctx context.Context, ifindex uint32, ifname string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.attacher.attach(atPod, ifindex, ifname); err != nil {
		return fmt.Errorf("attaching to device %s: %w", ifname, err)
	}
	return nil
}

// FinishAttach does for one pod's device what Attach put off, and tells for how many
// it is still to be done: the programs run already, but in a place that is only
// quick to reach. It takes the kernel some grace periods, so there is a time for it
// when nothing else waits. What failed is tried again by the next call.
func (d *Datapath) FinishAttach() (left int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if left, err = d.attacher.finish(); err != nil {
		return left, fmt.Errorf("moving a device from filters to links: %w", err)
	}
	return left, nil
}

// Detach takes the programs off a pod's device; one that is gone is no error.
func (d *Datapath) Detach(ifname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.attacher.detach(atPod, ifname); err != nil {
		return fmt.Errorf("detaching from device %s: %w", ifname, err)
	}
	return nil
}
