// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"

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
	pins   pins
	places places
	log    *slog.Logger
}

func (c *clsactAttacher) replace(choose chooser) error {
	devices, err := filteredDevices()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if err := c.put(c.places.of(dev.programs), dev.Index, choose); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
	}
	return nil
}

// takeOver moves devices that an agent with tcx served to filters.
func (c *clsactAttacher) takeOver() error {
	links := tcxAttacher{pins: c.pins, places: c.places, log: c.log}
	for at := range place(len(c.places)) {
		names, err := links.attached(at)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := c.takeOverLink(links, at, name); err != nil {
				return fmt.Errorf("device %s: %w", name, err)
			}
		}
	}
	return nil
}

func (c *clsactAttacher) takeOverLink(links tcxAttacher, at place, name string) error {
	dev, err := netlink.LinkByName(name)
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err
	}
	if err == nil {
		if err := c.attach(at, uint32(dev.Attrs().Index), name); err != nil {
			return err
		}
	}
	return links.detach(at, name)
}

func (c *clsactAttacher) attach(at place, ifindex uint32, _ string) error {
	if err := netlink.QdiscAdd(clsactQdisc(int(ifindex))); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("adding a clsact qdisc: %w", err)
	}
	return c.put(at, int(ifindex), ownProgram)
}

// put makes or replaces the filters of a device.
func (c *clsactAttacher) put(at place, ifindex int, choose chooser) error {
	for _, s := range c.places[at] {
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

// finish has nothing to do.
func (c *clsactAttacher) finish() (int, error) { return 0, nil }

func (c *clsactAttacher) attached(at place) ([]string, error) {
	devices, err := filteredDevices()
	var found []string
	for _, dev := range devices {
		if c.places.of(dev.programs) == at {
			found = append(found, dev.Name)
		}
	}
	return found, err
}

func (c *clsactAttacher) detach(_ place, ifname string) error {
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

// filteredDevice is one that has a filter of ours.
type filteredDevice struct {
	net.Interface
	programs []string // names of ours
}

// of tells what a device with such programs is.
func (p places) of(programs []string) place {
	for at, sides := range p {
		for _, s := range sides {
			if slices.Contains(programs, s.name) {
				return place(at)
			}
		}
	}
	return atPod
}

func filteredDevices() ([]filteredDevice, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	var found []filteredDevice
	for _, dev := range devices {
		ours, _, err := filtersOf(dev.Index)
		if err != nil {
			return nil, fmt.Errorf("listing filters of device %s: %w", dev.Name, err)
		}
		if len(ours) > 0 {
			found = append(found, filteredDevice{dev, ours})
		}
	}
	return found, nil
}

// filtersOf tells which filters of a device's clsact qdisc are ours, by the name
// of the program, and how many are not.
func filtersOf(ifindex int) (ours []string, others int, err error) {
	for _, parent := range []uint32{clsactIngress, clsactEgress} {
		filters, err := filtersAt(ifindex, parent)
		if err != nil {
			return nil, 0, err
		}
		for _, f := range filters {
			if bpf := asOurs(f); bpf != nil {
				ours = append(ours, bpf.Name)
			} else {
				others++
			}
		}
	}
	return ours, others, nil
}

// filterProgram tells which program our filter runs, 0 if there is none.
func filterProgram(ifindex int, parent uint32) (ebpf.ProgramID, error) {
	filters, err := filtersAt(ifindex, parent)
	if err != nil {
		return 0, err
	}
	for _, f := range filters {
		if bpf := asOurs(f); bpf != nil {
			return ebpf.ProgramID(bpf.Id), nil
		}
	}
	return 0, nil
}

// asOurs gives nil for a filter of others.
func asOurs(f netlink.Filter) *netlink.BpfFilter {
	bpf, isBPF := f.(*netlink.BpfFilter)
	if isBPF && f.Attrs().Handle == filterHandle && f.Attrs().Priority == filterPriority {
		return bpf
	}
	return nil
}

// filtersAt is empty without a clsact qdisc, and for a device that has just gone.
func filtersAt(ifindex int, parent uint32) ([]netlink.Filter, error) {
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
	filters, err := netlink.FilterList(dev, parent)
	return filters, ignoreGone(err)
}

// removeFilters removes our filters, and the qdisc when it has no others.
func removeFilters(ifindex int) error {
	ours, others, err := filtersOf(ifindex)
	if err != nil || len(ours) == 0 {
		return err
	}
	if others == 0 {
		return ignoreGone(netlink.QdiscDel(clsactQdisc(ifindex)))
	}
	return dropFilters(ifindex)
}

// removeIdleQdisc removes a clsact qdisc that dropFilters left.
func removeIdleQdisc(ifindex int) error {
	ours, others, err := filtersOf(ifindex)
	if err != nil || len(ours)+others > 0 {
		return err
	}
	return ignoreGone(netlink.QdiscDel(clsactQdisc(ifindex)))
}

// dropFilters removes our filters and leaves the qdisc, which costs nothing where a
// link decides before it. To remove a qdisc the kernel takes a device that is up
// out of service for a moment, and what is sent to it then is lost.
func dropFilters(ifindex int) error {
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
