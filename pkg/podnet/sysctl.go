// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// setSysctl sets net.<family>.conf.<device>.<key> in the calling thread's network
// namespace. It writes only what differs, so that it also works where the value
// is right and /proc/sys is read-only.
func setSysctl(family, device, key, value string) error {
	path := filepath.Join("/proc/sys/net", family, "conf", device, key)
	old, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && family == "ipv6" {
		return fmt.Errorf("setting %s: %w; is IPv6 turned off in the kernel?", path, err)
	}
	if err == nil && strings.TrimSpace(string(old)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("setting %s to %s: %w", path, value, err)
	}
	return nil
}
