// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	const (
		proc   = "20 1 0:5 / /proc rw - proc proc rw\n"
		host   = "30 1 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
		hybrid = "31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		part   = "32 1 0:27 /system.slice /run/part rw - cgroup2 cgroup2 rw\n"
		own    = "40 1 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n"
		above  = "41 1 0:26 /../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw\n"
	)
	for name, c := range map[string]struct{ mounts, root, want string }{
		"none":                           {mounts: proc},
		"a host":                         {proc + host, "/sys/fs/cgroup", "/sys/fs/cgroup"},
		"a host with both versions":      {proc + hybrid + part, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"},
		"a part only":                    {part, "", "/run/part"},
		"a machine that is a namespace":  {part + hybrid, "", "/sys/fs/cgroup/unified"},
		"a container, its host's after":  {own + above, "/host/sys/fs/cgroup", "/host/sys/fs/cgroup"},
		"a container, its host's before": {above + own, "/host/sys/fs/cgroup", "/host/sys/fs/cgroup"},
	} {
		got, err := choose(strings.NewReader(c.mounts), func(dir string) bool { return dir == c.root })
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}
