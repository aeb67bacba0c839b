// SPDX-License-Identifier: Apache-2.0

// Package cgroup finds the hierarchy of control groups (cgroup2), which hosts
// mount in different places.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrNone: no cgroup2 is mounted, to which socket programs could be attached.
var ErrNone = errors.New("no cgroup2 is mounted; mount one, such as with mount -t cgroup2 none /sys/fs/cgroup, or name it in the setting cgroup")

// FindMount is the mount point of cgroup2: that of the whole hierarchy if there
// are several.
func FindMount() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("looking for a cgroup2 mount: %w", err)
	}
	defer f.Close()
	found := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		mount, fs, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if !ok || len(fields) < 5 || !strings.HasPrefix(fs, "cgroup2 ") {
			continue
		}
		// A later mount on the same place hides an earlier one.
		if root, at := fields[3], fields[4]; found == "" || root == "/" || at == found {
			found = at
		}
	}
	if found == "" {
		return "", ErrNone
	}
	return found, nil
}
