// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// furnish puts the machine's file system together: what the machine outside has,
// with what is a computer's own made anew.
func furnish(dir string, spec *Spec) error {
	steps := []func() error{
		func() error { return newRoot(file(dir, "root")) },
		func() error { return unix.Sethostname([]byte(spec.Hostname)) },
		func() error { return mount("proc", "/proc", quiet, "") },
		mountSys,
	}
	if spec.Node {
		steps = append(steps,
			func() error { return mountGroups(spec.Groups) },
			func() error { return mount("bpf", "/sys/fs/bpf", quiet, "mode=700") },
			func() error { return ownFolders(dir, spec.Disk) },
		)
	}
	steps = append(steps,
		func() error { return writeFiles(spec.Files) },
		func() error { return setSysctls(spec.Sysctls) },
		func() error { return pretend(spec.Pretend) },
		// A pod's mounts that propagate (bpffs, CSI) reach the node and other pods.
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	)
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("furnishing: %w", err)
		}
	}
	return nil
}

func mount(fs, at string, flags uintptr, options string) error {
	if err := unix.Mount(fs, at, fs, flags, options); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", fs, at, err)
	}
	return nil
}

// mountSys shows the devices of this network namespace.
func mountSys() error {
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting /sys: %w", err)
	}
	if err := mount("sysfs", "/sys", quiet, ""); err != nil {
		return err
	}
	for fs, at := range map[string]string{"tracefs": "/sys/kernel/tracing", "securityfs": "/sys/kernel/security"} {
		_ = unix.Mount(fs, at, fs, quiet, "") // not every kernel has them
	}
	return nil
}

// ownFolders gives a node its own /run, and layers over /etc, /opt and /var which
// go with it; disk are the folders in /var that stay.
func ownFolders(dir string, disk []string) error {
	const layers, kept = "/run/layers", "/run/disk"
	if err := mount("tmpfs", "/run", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for _, d := range []string{"/run/lock", "/run/netns", layers, kept} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// Held by another path, because a layer may come to lie over this one.
	if err := bind(file(dir, "disk"), kept); err != nil {
		return err
	}
	for _, d := range []string{"/etc", "/opt", "/var"} {
		if err := layer(d, filepath.Join(layers, filepath.Base(d))); err != nil {
			return err
		}
	}
	for _, d := range disk {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := bind(filepath.Join(kept, d), d); err != nil {
			return err
		}
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", from, to, err)
	}
	return nil
}

// layer shows what is in dir and keeps what is written aside.
func layer(dir, aside string) error {
	upper, work := filepath.Join(aside, "upper"), filepath.Join(aside, "work")
	for _, d := range []string{dir, upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", dir, 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work)
}

func writeFiles(files map[string]string) error {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		dir, name := filepath.Split(path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := os.WriteFile(path, []byte(files[path]), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func setSysctls(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(values[name]), 0o644); err != nil {
			return fmt.Errorf("setting sysctl: %w", err)
		}
	}
	return nil
}

// pretend puts a file with the value in the place of a sysctl. Pods with a user
// namespace may mount proc only where a whole one is seen: that is in /run/proc.
func pretend(values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	for _, d := range []string{"/run/proc", "/run/sysctl"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := mount("proc", "/run/proc", quiet, ""); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := filepath.Join("/run/sysctl", strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(path, []byte(values[name]+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(path, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}
