// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newRoot makes what is seen as / the root of the mount namespace. Who enters a
// namespace finds himself at its root: where this is a chroot, that would be the
// machine outside, and not what is seen from here.
func newRoot(at string) error {
	seen, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(seen) }()
	place, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", at, err)
	}
	defer func() { _ = unix.Close(place) }()
	if err := leaveChroot(at); err != nil {
		return fmt.Errorf("leaving the chroot: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	tree, err := unix.OpenTree(seen, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("copying the mounts: %w", err)
	}
	defer func() { _ = unix.Close(tree) }()
	if err := unix.MoveMount(tree, "", place, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting on %s: %w", at, err)
	}
	if err := unix.Fchdir(tree); err != nil {
		return err
	}
	// The old root comes to lie over the new one, and is taken off.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("making %s the root: %w", at, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Chdir("/")
}

// leaveChroot goes up to the root of the mount namespace, from a folder that is not
// below the process's root: .. of that ends nowhere else. Without a chroot it is
// there already.
func leaveChroot(below string) error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Chroot(below); err != nil {
		return err
	}
	for {
		var here, up unix.Stat_t
		if err := unix.Stat(".", &here); err != nil {
			return err
		}
		if err := unix.Stat("..", &up); err != nil {
			return err
		}
		if here.Dev == up.Dev && here.Ino == up.Ino {
			return unix.Chroot(".")
		}
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
}
