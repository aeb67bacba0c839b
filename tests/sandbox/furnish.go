// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tmpDir   = "/run/tmp"
	netnsDir = "/run/netns"
)

// furnish makes the place: runs as PID 1 in the new namespaces.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	// The layers' tmpfs is the /run of this moment; the next /run hides it.
	for _, dir := range []string{"/etc", "/var/lib", "/opt"} {
		if err := layer(dir, filepath.Join("/run", filepath.Base(dir))); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := unix.Mount("bpffs", "/sys/fs/bpf", "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("mounting bpffs on /sys/fs/bpf (CONFIG_BPF_SYSCALL?): %w", err)
	}
	for _, dir := range []string{tmpDir, netnsDir, "/run/weft", "/var/lib/weft", "/etc/weft/manifests"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("furnishing the sandbox: %w", err)
		}
	}
	if err := unix.Sethostname([]byte("weft-sandbox")); err != nil {
		return fmt.Errorf("naming the sandbox: %w", err)
	}
	return loopbackUp()
}

// layer puts a writable layer over dir that shows what is there. Where overlay
// cannot be stacked, the folder is empty instead; one that does not exist is
// left alone.
func layer(dir, scratch string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	upper, work := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("preparing a layer over %s: %w", dir, err)
		}
	}
	opts := "lowerdir=" + dir + ",upperdir=" + upper + ",workdir=" + work
	if unix.Mount("overlay", dir, "overlay", 0, opts) == nil {
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting a private %s: %w", dir, err)
	}
	return nil
}

// loopbackUp brings lo up in the calling thread's network namespace.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return nil
}
