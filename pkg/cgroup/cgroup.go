// SPDX-License-Identifier: Apache-2.0

// Package cgroup finds the hierarchy of control groups (cgroup2), which hosts
// mount in different places.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
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
	found, err := choose(f, isRoot)
	if err != nil {
		return "", fmt.Errorf("looking for a cgroup2 mount: %w", err)
	}
	if found == "" {
		return "", ErrNone
	}
	return found, nil
}

// isRoot tells whether a folder is the root of the machine's hierarchy. In a
// container with a cgroup namespace of its own the mounts' roots do not tell: there
// its own group is called /, and the machine's root /../.. . The kernel numbers the
// root 1, and no other group so.
func isRoot(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Ino == 1
}

// choose takes, of the cgroup2 mounts in a mountinfo, that of the machine's root, or
// else one that has no root above it, or else any.
func choose(mountinfo io.Reader, isRoot func(dir string) bool) (string, error) {
	found, rank := "", 0
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		mount, fs, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if !ok || len(fields) < 5 || !strings.HasPrefix(fs, "cgroup2 ") {
			continue
		}
		root, at, r := fields[3], fields[4], 1
		if root == "/" {
			r = 2
		}
		if isRoot(at) {
			r = 3
		}
		// A later mount on the same place hides an earlier one.
		if r >= rank || at == found {
			found, rank = at, r
		}
	}
	return found, lines.Err()
}
