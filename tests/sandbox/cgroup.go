// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/cgroup"
)

// cgroupEnv tells PID 1 of the sandbox its cgroup.
const cgroupEnv = "WEFT_SANDBOX_CGROUP"

const cgroupPrefix = "weft-sandbox-"

// group is the cgroup of the sandbox's processes, as the machine outside sees
// it: programs on sockets see calls of those only.
type group struct {
	path string
	dir  *os.File
}

// makeCgroup makes the group, and removes those of sandboxes that were killed
// before they could.
func makeCgroup() (*group, error) {
	mount, err := cgroup.FindMount()
	if err != nil {
		return nil, err
	}
	removeAbandoned(mount)
	path, err := os.MkdirTemp(mount, cgroupPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a cgroup for the sandbox: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		_ = os.Remove(path)
		return nil, fmt.Errorf("opening the sandbox's cgroup: %w", err)
	}
	return &group{path: path, dir: dir}, nil
}

// remove is called when every process of the sandbox has ended. A process that
// was just killed may take a moment to leave.
func (g *group) remove() {
	_ = g.dir.Close()
	err := Eventually(context.Background(), 15*time.Second, "sandbox's cgroup empty", func() error {
		return removeGroup(g.path)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox: removing its cgroup:", err)
	}
}

// removeGroup removes a group and those in it, such as a proxy's.
func removeGroup(path string) error {
	inner, err := filepath.Glob(filepath.Join(path, "*", "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, procs := range inner {
		if err := removeGroup(filepath.Dir(procs)); err != nil {
			return err
		}
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// removeAbandoned removes groups without a process; those that were just made
// are about to get one.
func removeAbandoned(mount string) {
	groups, _ := filepath.Glob(filepath.Join(mount, cgroupPrefix+"*"))
	for _, path := range groups {
		if st, err := os.Stat(path); err == nil && time.Since(st.ModTime()) > time.Minute {
			_ = removeGroup(path) // one with processes in it stays
		}
	}
}

// bindCgroup makes the sandbox's group all that is seen of cgroup2 inside.
func bindCgroup(path string) error {
	if err := unix.Mount(path, filepath.Dir(path), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing the sandbox only its own cgroup: %w", err)
	}
	return nil
}
