// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is a machine's group in one hierarchy of control groups.
type Group struct {
	Mount   string // where the hierarchy is mounted
	Type    string // cgroup (version 1) or cgroup2
	Options string // version 1: its controllers, or name=…
	Path    string // the group's folder
}

// leaf is where PID 1 and whoever enters a machine are in version 2: a group with
// processes in it cannot share its controllers out, as kubelet does from the root.
func (g Group) leaf() string {
	if g.Type == "cgroup2" && g.whole() {
		return filepath.Join(g.Path, "init")
	}
	return g.Path
}

// whole tells whether version 2 has the controllers, not version 1 beside it.
func (g Group) whole() bool { return g.Mount == "/sys/fs/cgroup" }

// hierarchies are those that are mounted here.
func hierarchies() ([]Group, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []Group
	for lines := bufio.NewScanner(f); lines.Scan(); {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		at, is := strings.Fields(left), strings.Fields(right)
		if len(at) < 5 || len(is) < 3 || is[0] != "cgroup" && is[0] != "cgroup2" {
			continue
		}
		g := Group{Mount: at[4], Type: is[0]}
		if g.Type == "cgroup" {
			g.Options = mountOptions(is[2])
		}
		if !slices.ContainsFunc(all, func(o Group) bool { return o.Type == g.Type && o.Options == g.Options }) {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return all, nil
}

// mountOptions are those, of what mountinfo shows, that mount the same hierarchy again.
func mountOptions(shown string) string {
	options := slices.DeleteFunc(strings.Split(shown, ","), func(o string) bool {
		return o == "rw" || o == "ro" || o == "xattr" || o == "clone_children" || strings.HasPrefix(o, "release_agent=")
	})
	if len(options) == 1 && strings.HasPrefix(options[0], "name=") {
		return "none," + options[0]
	}
	return strings.Join(options, ",")
}

// planGroups names a group in every hierarchy, at its root, as container engines do.
func planGroups(name string) ([]Group, error) {
	all, err := hierarchies()
	for i := range all {
		all[i].Path = filepath.Join(all[i].Mount, name)
	}
	return all, err
}

func makeGroups(groups []Group) error {
	for _, g := range groups {
		if g.Type == "cgroup2" && g.whole() {
			shareControllers(g.Mount)
		}
		if err := os.MkdirAll(g.leaf(), 0o755); err != nil {
			return fmt.Errorf("making a control group: %w", err)
		}
		if err := g.prepareCPUs(); err != nil {
			return err
		}
	}
	return nil
}

// shareControllers lets groups below have those that kubelet asks for; one that
// the kernel does not have is none that it misses.
func shareControllers(dir string) {
	for _, c := range []string{"+cpu", "+cpuset", "+memory", "+io", "+pids", "+hugetlb"} {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(c), 0o644)
	}
}

// prepareCPUs gives a group of version 1's cpuset the CPUs and memory of its
// parent, without which no process can be in it.
func (g Group) prepareCPUs() error {
	if g.Type != "cgroup" || !slices.Contains(strings.Split(g.Options, ","), "cpuset") {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(g.Mount, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(g.Path, name), value, 0o644)
		}
		if err != nil {
			return fmt.Errorf("preparing a group of cpuset: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(g.Path, "cgroup.clone_children"), []byte("1"), 0o644)
}

// join puts the calling process into the groups.
func join(groups []Group, where func(Group) string) error {
	for _, g := range groups {
		if err := os.WriteFile(filepath.Join(where(g), "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("joining a control group: %w", err)
		}
	}
	return nil
}

// mountGroups shows a node its own groups as all there is, at the usual places.
func mountGroups(groups []Group) error {
	const root = "/sys/fs/cgroup"
	if !slices.ContainsFunc(groups, Group.whole) {
		if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
			return fmt.Errorf("mounting %s: %w", root, err)
		}
	}
	for _, g := range groups {
		if err := os.MkdirAll(g.Mount, 0o755); err != nil {
			return fmt.Errorf("mounting control groups: %w", err)
		}
		if err := unix.Mount(g.Type, g.Mount, g.Type, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, g.Options); err != nil {
			return fmt.Errorf("mounting control groups on %s: %w", g.Mount, err)
		}
		if names := strings.Split(filepath.Base(g.Mount), ","); len(names) > 1 {
			for _, name := range names { // cpu and cpuacct are links to cpu,cpuacct
				_ = os.Symlink(filepath.Base(g.Mount), filepath.Join(filepath.Dir(g.Mount), name))
			}
		}
	}
	return nil
}

// removeGroups removes the groups and those below them. A process that was just
// killed may take a moment to leave.
func removeGroups(ctx context.Context, groups []Group) error {
	for _, g := range groups {
		var last error
		err := waitFor(ctx, 15*time.Second, "control group "+g.Path+" to be empty", func() bool {
			last = removeTree(g.Path)
			return last == nil
		})
		if err != nil {
			return fmt.Errorf("%w: %w", err, last)
		}
	}
	return nil
}

func removeTree(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	slices.Reverse(dirs) // children come first
	for _, d := range dirs {
		if e := unix.Rmdir(d); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("removing %s: %w", d, e))
		}
	}
	return err
}
