// SPDX-License-Identifier: Apache-2.0

// Command footprint lists what Weft could leave on a machine: network devices
// and namespaces, mounts, pins, kernel programs, maps and links of its own, and
// processes. CI compares the lists of before and after.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weftmesh/weft/pkg/cgroup"
)

func main() {
	lines, err := list()
	if err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
	slices.Sort(lines)
	for _, l := range slices.Compact(lines) {
		fmt.Println(l)
	}
}

func list() ([]string, error) {
	var all []string
	for _, part := range []func() ([]string, error){devices, namespaces, mounts, pins, programs, maps, links, cgroups, processes} {
		lines, err := part()
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	return all, nil
}

// cgroups are those that a sandbox or a cluster made.
func cgroups() ([]string, error) {
	mount, err := cgroup.FindMount()
	if errors.Is(err, cgroup.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(mount, "weft-*"))
	var out []string
	for _, p := range paths {
		out = append(out, "cgroup "+p)
	}
	return out, err
}

func devices() ([]string, error) {
	entries, err := os.ReadDir("/sys/class/net")
	var out []string
	for _, e := range entries {
		out = append(out, "device "+e.Name())
	}
	return out, err
}

// namespaces are those that a process is in, and those with a name.
func namespaces() ([]string, error) {
	var out []string
	paths, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if ns, err := os.Readlink(p); err == nil { // else the process has ended
			out = append(out, "network namespace "+ns)
		}
	}
	named, err := filepath.Glob("/run/netns/*")
	for _, p := range named {
		out = append(out, "network namespace "+p)
	}
	return out, err
}

func mounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			out = append(out, "mount "+fields[4])
		}
	}
	return out, nil
}

func pins() ([]string, error) {
	var out []string
	err := filepath.WalkDir("/sys/fs/bpf", func(path string, _ fs.DirEntry, err error) error {
		out = append(out, "pin "+path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return out, err
}

func programs() ([]string, error) {
	var out []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, "weft_") {
			out = append(out, fmt.Sprintf("program %d %s", id, info.Name))
		}
		_ = p.Close()
	}
}

func maps() ([]string, error) {
	var out []string
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listing maps: %w", err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := m.Info(); err == nil && strings.HasPrefix(info.Name, "weft_") {
			out = append(out, fmt.Sprintf("map %d %s", id, info.Name))
		}
		_ = m.Close()
	}
}

func links() ([]string, error) {
	var out []string
	it := new(link.Iterator)
	for it.Next() {
		out = append(out, fmt.Sprintf("link %d", it.ID))
	}
	return out, it.Err()
}

func processes() ([]string, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	var out []string
	for _, p := range paths {
		name, err := os.ReadFile(p)
		if err != nil {
			continue // ended
		}
		comm := strings.TrimSpace(string(name))
		if strings.HasPrefix(comm, "weft") || comm == "demo" || comm == "testrun" || comm == "cluster" {
			out = append(out, "process "+filepath.Base(filepath.Dir(p))+" "+comm)
		}
	}
	return out, err
}
