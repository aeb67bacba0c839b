// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcxAttacher attaches by links that are pinned, so that they stay when the
// agent goes.
type tcxAttacher struct {
	pins   pins
	places places
	log    *slog.Logger
}

func (t *tcxAttacher) adopt() error {
	entries, err := os.ReadDir(t.pins.linksDir())
	if err != nil {
		return fmt.Errorf("listing pinned links: %w", err)
	}
	for _, sides := range t.places { // those of pods first: they are what a move of conntrack waits for
		for _, e := range entries {
			if err := t.replaceEither(e.Name(), sides); err != nil {
				return fmt.Errorf("link %s: %w", e.Name(), err)
			}
		}
	}
	return t.takeOverFilters()
}

// replaceEither puts the program of one of the sides into a link that is its own.
func (t *tcxAttacher) replaceEither(pin string, sides [2]side) error {
	for _, s := range sides {
		if strings.HasSuffix(pin, s.suffix) {
			return t.replace(filepath.Join(t.pins.linksDir(), pin), s)
		}
	}
	return nil
}

// takeOverFilters moves devices that an agent without tcx served to links.
func (t *tcxAttacher) takeOverFilters() error {
	devices, err := filteredDevices()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if err := t.attach(t.places.of(dev.programs), uint32(dev.Index), dev.Name); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
		if err := removeFilters(dev.Index); err != nil {
			return fmt.Errorf("device %s: %w", dev.Name, err)
		}
	}
	return nil
}

// replace puts the program into a pinned link. The link of a device that is
// gone holds nothing any more, and its pin goes.
func (t *tcxAttacher) replace(path string, s side) error {
	l, ifindex, err := openLink(path)
	if err != nil {
		return err
	}
	defer l.Close()
	if ifindex != 0 {
		err := l.Update(s.prog)
		if !errors.Is(err, unix.ENOLINK) {
			return err
		}
	}
	t.log.Info("a device went while the agent was away", "pin", filepath.Base(path))
	return os.Remove(path)
}

// openLink opens a pinned link and tells its device, 0 if that is gone.
func openLink(path string) (link.Link, uint32, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil, 0, err
	}
	info, err := l.Info()
	if err != nil {
		l.Close()
		return nil, 0, fmt.Errorf("reading the link: %w", err)
	}
	if tcx := info.TCX(); tcx != nil {
		return l, tcx.Ifindex, nil
	}
	return l, 0, nil
}

func (t *tcxAttacher) attach(at place, ifindex uint32, ifname string) error {
	for _, s := range t.places[at] {
		path := t.pins.linkPath(ifname, s.suffix)
		l, have, err := openLink(path)
		if err == nil {
			l.Close()
			if have == ifindex {
				continue
			}
			if err := removeLink(path); err != nil { // a device of an earlier pod
				return err
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("opening the pinned link: %w", err)
		}
		if err := t.attachSide(ifindex, path, s); err != nil {
			return err
		}
	}
	return nil
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
	slices.Sort(found)
	return slices.Compact(found), nil
}

func (t *tcxAttacher) detach(at place, ifname string) error {
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
