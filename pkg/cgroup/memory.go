// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MemoryLimit is how many bytes the groups of this process let it have, as far as they
// are seen from here; 0: nothing limits it. In a container that is the container's limit.
func MemoryLimit() (uint64, error) {
	mount, err := FindMount()
	if errors.Is(err, ErrNone) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, fmt.Errorf("reading this process's group: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if own, is := strings.CutPrefix(strings.TrimSpace(line), "0::"); is {
			return memoryLimit(mount, own)
		}
	}
	return 0, nil
}

// memoryLimit is the smallest limit on the way from a group up to the mount.
func memoryLimit(mount, own string) (limit uint64, err error) {
	for dir := filepath.Clean("/" + own); ; dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(mount, dir, "memory.max"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("reading a limit of memory: %w", err)
		}
		if value := strings.TrimSpace(string(text)); value != "" && value != "max" {
			one, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading a limit of memory: %w", err)
			}
			if limit == 0 || one < limit {
				limit = one
			}
		}
		if dir == "/" {
			return limit, nil
		}
	}
}
