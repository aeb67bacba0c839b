// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Cleanup takes Weft out of the kernel: links, filters, maps and pins. Traffic
// is not looked at any more. What is gone already is no error.
func Cleanup(bpffs string) error {
	p := pins{root: bpffs}
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
	return nil
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
