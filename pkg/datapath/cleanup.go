// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Cleanup takes Weft out of the kernel: links, filters, maps and pins. Traffic
// is not looked at any more. What is gone already is no error.
func Cleanup(bpffs string) error {
	p := pins{root: bpffs}
	linked := p.linkedDevices()
	for _, dir := range []string{p.socketsDir(), p.linksDir()} {
		if err := removeLinks(dir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(p.root); err != nil {
		return fmt.Errorf("removing BPF pins: %w", err)
	}
	devices, err := filteredDevices()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		if err := removeFilters(dev.Index); err != nil {
			return fmt.Errorf("removing filters of device %s: %w", dev.Name, err)
		}
	}
	for _, name := range linked {
		dev, err := net.InterfaceByName(name)
		if err != nil {
			continue // it is gone
		}
		if err := removeIdleQdisc(dev.Index); err != nil {
			return fmt.Errorf("removing the clsact qdisc of device %s: %w", name, err)
		}
	}
	return nil
}

// linkedDevices are the names of devices that have a pinned link.
func (p pins) linkedDevices() (names []string) {
	entries, err := os.ReadDir(p.linksDir())
	if err != nil {
		return nil // removeLinks says so
	}
	for _, e := range entries {
		if at := strings.LastIndexByte(e.Name(), '_'); at > 0 {
			names = append(names, deviceOfPin(e.Name()[:at]))
		}
	}
	return names
}

func removeLinks(dir string) error {
	links, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing pinned links: %w", err)
	}
	for _, l := range links {
		if err := removeLink(filepath.Join(dir, l.Name())); err != nil {
			return fmt.Errorf("link %s: %w", l.Name(), err)
		}
	}
	return nil
}
