// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcxAttacher attaches by links that are pinned, so that they stay when the
// agent goes.
//
// The kernel takes a grace period for each link, some 20 ms a device, in which it
// lets nobody else change devices either; filters take half a millisecond. So that
// a pod need not wait, its device gets filters of the same programs, and links in
// their place later (finish). A link comes before filters, and what it lets pass or
// drops does not reach them, so each packet meets one program all the time. What an
// agent that is killed leaves on filters, the next one takes over.
type tcxAttacher struct {
	pins     pins
	places   places
	log      *slog.Logger
	quick    *clsactAttacher   // nil: links at once
	filtered map[string]uint32 // devices that are to get links, and their indexes
}

func (t *tcxAttacher) replace(choose chooser) error {
	filters := clsactAttacher{pins: t.pins, places: t.places, log: t.log}
	if err := filters.replace(choose); err != nil {
		return err
	}
	entries, err := os.ReadDir(t.pins.linksDir())
	if err != nil {
		return fmt.Errorf("listing pinned links: %w", err)
	}
	for _, e := range entries {
		for _, sides := range t.places {
			for _, s := range sides {
				if !strings.HasSuffix(e.Name(), s.suffix) {
					continue
				}
				if err := t.replaceIn(filepath.Join(t.pins.linksDir(), e.Name()), s, choose); err != nil {
					return fmt.Errorf("link %s: %w", e.Name(), err)
				}
			}
		}
	}
	return nil
}

// takeOver moves devices that an agent without tcx served to links.
func (t *tcxAttacher) takeOver() error {
	devices, err := filteredDevices()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if err := t.link(t.places.of(dev.programs), uint32(dev.Index), dev.Name); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
		if err := dropFilters(dev.Index); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
	}
	return nil
}

// replaceIn puts another program into a pinned link. The link of a device that is
// gone holds nothing any more, and its pin goes.
func (t *tcxAttacher) replaceIn(path string, s side, choose chooser) error {
	l, on, err := openLink(path)
	if err != nil {
		return err
	}
	defer l.Close()
	if on.ifindex != 0 {
		prog, err := choose(s, on.program)
		if err != nil {
			return err
		}
		err = l.Update(prog)
		if !errors.Is(err, unix.ENOLINK) {
			return err
		}
	}
	t.log.Info("a device went while the agent was away", "pin", filepath.Base(path))
	return os.Remove(path)
}

// linkEnds are what a link connects: a device, 0 if that is gone, and a program.
type linkEnds struct {
	ifindex uint32
	program ebpf.ProgramID
}

func openLink(path string) (link.Link, linkEnds, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil, linkEnds{}, err
	}
	info, err := l.Info()
	if err != nil {
		l.Close()
		return nil, linkEnds{}, fmt.Errorf("reading the link: %w", err)
	}
	ends := linkEnds{program: info.Program}
	if tcx := info.TCX(); tcx != nil {
		ends.ifindex = tcx.Ifindex
	}
	return l, ends, nil
}

func (t *tcxAttacher) attach(at place, ifindex uint32, ifname string) error {
	if t.quick == nil || at != atPod {
		return t.link(at, ifindex, ifname)
	}
	missing, err := t.missing(at, ifindex, ifname)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := t.quick.attach(at, ifindex, ifname); err != nil {
		t.log.Info("a device gets no filters, and links at once", "device", ifname, "error", err)
		return t.link(at, ifindex, ifname)
	}
	t.filtered[ifname] = ifindex
	return nil
}

// finish takes any of the devices: all have their programs.
func (t *tcxAttacher) finish() (left int, err error) {
	for ifname, ifindex := range t.filtered {
		if err := t.link(atPod, ifindex, ifname); err != nil && !errors.Is(err, unix.ENODEV) {
			return len(t.filtered), fmt.Errorf("device %s: %w", ifname, err)
		}
		if err := dropFilters(int(ifindex)); err != nil {
			return len(t.filtered), fmt.Errorf("device %s: %w", ifname, err)
		}
		delete(t.filtered, ifname)
		break
	}
	return len(t.filtered), nil
}

// link attaches by links.
func (t *tcxAttacher) link(at place, ifindex uint32, ifname string) error {
	missing, err := t.missing(at, ifindex, ifname)
	if err != nil {
		return err
	}
	for _, s := range missing {
		if err := t.attachSide(ifindex, t.pins.linkPath(ifname, s.suffix), s); err != nil {
			return err
		}
	}
	return nil
}

// missing lists the sides of a device that have no link. The links of a device of
// an earlier pod go.
func (t *tcxAttacher) missing(at place, ifindex uint32, ifname string) (missing []side, err error) {
	for _, s := range t.places[at] {
		path := t.pins.linkPath(ifname, s.suffix)
		l, have, err := openLink(path)
		if err == nil {
			l.Close()
			if have.ifindex == ifindex {
				continue
			}
			if err := removeLink(path); err != nil {
				return nil, err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("opening the pinned link: %w", err)
		}
		missing = append(missing, s)
	}
	return missing, nil
}

// attachSide attaches before every other program: what passes here has been
// decided, and nobody's earlier verdict lets a packet by.
func (t *tcxAttacher) attachSide(ifindex uint32, path string, s side) error {
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: int(ifindex), Program: s.prog, Attach: s.attach, Anchor: link.Head(),
	})
	if err != nil {
		return fmt.Errorf("attaching %s: %w", s.name, err)
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return fmt.Errorf("pinning the link of %s: %w", s.name, err)
	}
	return nil
}

func (t *tcxAttacher) attached(at place) ([]string, error) {
	entries, err := os.ReadDir(t.pins.linksDir())
	if err != nil {
		return nil, fmt.Errorf("listing pinned links: %w", err)
	}
	var found []string
	for _, e := range entries {
		for _, s := range t.places[at] {
			if name, ok := strings.CutSuffix(e.Name(), s.suffix); ok {
				found = append(found, deviceOfPin(name))
			}
		}
	}
	if at == atPod {
		found = slices.AppendSeq(found, maps.Keys(t.filtered))
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func (t *tcxAttacher) detach(at place, ifname string) error {
	if _, ok := t.filtered[ifname]; ok && at == atPod {
		if err := t.quick.detach(at, ifname); err != nil {
			return err
		}
		delete(t.filtered, ifname)
	}
	for _, s := range t.places[at] {
		if err := removeLink(t.pins.linkPath(ifname, s.suffix)); err != nil {
			return err
		}
	}
	return nil
}

// removeLink ends a pinned link: when it returns, the program is off the device.
// Without the explicit end, the kernel would take its time after the last
// reference. What is not there is no error.
func removeLink(path string) error {
	l, _, err := openLink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the pinned link: %w", err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("ending the pinned link: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the pinned link: %w", err)
	}
	return nil
}
