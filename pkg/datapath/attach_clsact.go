// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Our filters of clsact qdiscs have one fixed place, so that a newer program
// replaces an older one there. They stay when the agent goes, without a pin.
const (
	clsactIngress  = netlink.HANDLE_MIN_INGRESS
	clsactEgress   = netlink.HANDLE_MIN_EGRESS
	filterHandle   = 0x77656674 // "weft"
	filterPriority = 1
)

// clsactAttacher attaches by cls_bpf filters, for kernels before 6.6.
type clsactAttacher struct {
	pins  pins
	sides [2]side
	log   *slog.Logger
}

func (c *clsactAttacher) replace(choose chooser) error {
	devices, err := filteredDevices()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if err := c.put(dev.Index, choose); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
	}
	return nil
}

// takeOver moves devices that an agent with tcx served to filters.
func (c *clsactAttacher) takeOver() error {
	links := tcxAttacher{pins: c.pins, sides: c.sides, log: c.log}
	devices, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing devices: %w", err)
	}
	for _, dev := range devices {
		if _, err := os.Stat(c.pins.linkPath(dev.Name, c.sides[0].suffix)); err != nil {
			continue
		}
		if err := c.attach(uint32(dev.Index), dev.Name); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
		if err := links.detach(dev.Name); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
	}
	return nil
}

func (c *clsactAttacher) attach(ifindex uint32, _ string) error {
	if err := netlink.QdiscAdd(clsactQdisc(int(ifindex))); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("adding a clsact qdisc: %w", err)
	}
	return c.put(int(ifindex), func(s side, _ ebpf.ProgramID) (*ebpf.Program, error) { return s.prog, nil })
}

// put makes or replaces the filters of a device.
func (c *clsactAttacher) put(ifindex int, choose chooser) error {
	for _, s := range c.sides {
		inUse, err := filterProgram(ifindex, s.parent)
		if err != nil {
			return fmt.Errorf("looking for a filter: %w", err)
		}
		prog, err := choose(s, inUse)
		if err != nil {
			return err
		}
		filter := &netlink.BpfFilter{
			FilterAttrs:  ourFilter(ifindex, s.parent),
			Fd:           prog.FD(),
			Name:         s.name,
			DirectAction: true,
		}
		if err := netlink.FilterReplace(filter); err != nil {
			return fmt.Errorf("attaching %s: %w", s.name, err)
		}
	}
	return nil
}

func (c *clsactAttacher) detach(ifname string) error {
	dev, err := netlink.LinkByName(ifname)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeFilters(dev.Attrs().Index)
}

func clsactQdisc(ifindex int) netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

func ourFilter(ifindex int, parent uint32) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: ifindex, Parent: parent, Handle: filterHandle,
		Priority: filterPriority, Protocol: unix.ETH_P_ALL,
	}
}

// filteredDevices are those that have a filter of ours.
func filteredDevices() ([]net.Interface, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	var found []net.Interface
	for _, dev := range devices {
		ours, _, err := countFilters(dev.Index)
		if err != nil {
			return nil, fmt.Errorf("listing filters of device %s: %w", dev.Name, err)
		}
		if ours > 0 {
			found = append(found, dev)
		}
	}
	return found, nil
}

// countFilters tells how many filters of a device's clsact qdisc are ours, and
// how many are not.
func countFilters(ifindex int) (ours, others int, err error) {
	for _, parent := range []uint32{clsactIngress, clsactEgress} {
		filters, err := filtersOf(ifindex, parent)
		if err != nil {
			return 0, 0, err
		}
		for _, f := range filters {
			if isOurs(f) {
				ours++
			} else {
				others++
			}
		}
	}
	return ours, others, nil
}

// filterProgram tells which program our filter runs, 0 if there is none.
func filterProgram(ifindex int, parent uint32) (ebpf.ProgramID, error) {
	filters, err := filtersOf(ifindex, parent)
	if err != nil {
		return 0, err
	}
	for _, f := range filters {
		if bpf, ok := f.(*netlink.BpfFilter); ok && isOurs(f) {
			return ebpf.ProgramID(bpf.Id), nil
		}
	}
	return 0, nil
}

func isOurs(f netlink.Filter) bool {
	return f.Attrs().Handle == filterHandle && f.Attrs().Priority == filterPriority
}

// filtersOf is empty without a clsact qdisc, and for a device that has just gone.
func filtersOf(ifindex int, parent uint32) ([]netlink.Filter, error) {
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	filters, err := netlink.FilterList(dev, parent)
	return filters, ignoreGone(err)
}

// removeFilters removes our filters, and the qdisc when it has no others.
func removeFilters(ifindex int) error {
	ours, others, err := countFilters(ifindex)
	if err != nil || ours == 0 {
		return err
	}
	if others == 0 {
		return ignoreGone(netlink.QdiscDel(clsactQdisc(ifindex)))
	}
	for _, parent := range []uint32{clsactIngress, clsactEgress} {
		filter := &netlink.BpfFilter{FilterAttrs: ourFilter(ifindex, parent)}
		if err := ignoreGone(netlink.FilterDel(filter)); err != nil {
			return fmt.Errorf("removing a filter: %w", err)
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
