// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"os"
)

// Cleanup takes Weft out of the kernel: links, filters, maps and pins. Traffic
// is not looked at any more. What is gone already is no error.
func Cleanup(bpffs string) error {
	p := pins{root: bpffs}
	// Links first: a program without its maps' pins would still run.
	for _, dir := range []string{p.linksDir(), p.mapsDir(), p.root} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing BPF pins: %w", err)
		}
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
