// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// namespaces of every machine; a node adds its cgroup namespace when it is in
// its groups.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Start makes the machine in dir and starts it. binary is a program that calls
// Main for the arguments "machine" and dir, by an absolute path. When network has given the machine its links
// and returned, the services start; network is called with PID 1. A caller that
// dies before leaves nothing running. listener, if any, is what Spec.Proxy serves.
func Start(dir, binary string, spec Spec, listener *os.File, network func(pid int) error) error {
	name := filepath.Base(dir)
	for _, d := range append([]string{"log", "root", "disk"}, diskFolders(spec)...) {
		if err := os.MkdirAll(file(dir, d), 0o755); err != nil {
			return fmt.Errorf("making machine %s: %w", name, err)
		}
	}
	if spec.Node {
		groups, err := planGroups(spec.CgroupName)
		if err != nil {
			return fmt.Errorf("making machine %s: %w", name, err)
		}
		spec.Groups = groups
	}
	// Remove learns from this file what there may be.
	if err := writeJSON(file(dir, "machine.json"), spec); err != nil {
		return fmt.Errorf("making machine %s: %w", name, err)
	}
	// Those that it had before it was stopped share controllers out and take nobody in.
	if err := removeGroups(context.Background(), spec.Groups); err != nil {
		return fmt.Errorf("making machine %s: %w", name, err)
	}
	if err := makeGroups(spec.Groups); err != nil {
		return fmt.Errorf("making machine %s: %w", name, err)
	}
	if err := run(dir, binary, spec.Bound, listener, network); err != nil {
		return fmt.Errorf("starting machine %s: %w", name, err)
	}
	return nil
}

func diskFolders(spec Spec) []string {
	var all []string
	for _, d := range spec.Disk {
		all = append(all, filepath.Join("disk", d))
	}
	return all
}

func run(dir, binary string, bound bool, listener *os.File, network func(pid int) error) error {
	log, err := os.OpenFile(file(dir, "log/init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	begin, starter, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = starter.Close() }()
	furnished, tell, err := os.Pipe()
	if err != nil {
		return errors.Join(err, begin.Close())
	}
	defer func() { _ = furnished.Close() }()
	cmd := exec.Command(binary, "machine", dir)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = begin, log, log
	cmd.ExtraFiles = []*os.File{tell}
	if listener != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	if err := errors.Join(cmd.Start(), begin.Close(), tell.Close()); err != nil {
		return err
	}
	init, ok := look(cmd.Process.Pid)
	if !ok {
		return fmt.Errorf("it ended at once; see %s", file(dir, "log/init.log"))
	}
	// From here on Remove finds it. Until it reads the byte it does nothing, and it
	// ends when the pipe does.
	if err := writeJSON(file(dir, "process.json"), init); err != nil {
		return err
	}
	if err := network(init.PID); err != nil {
		return err
	}
	if bound { // a descriptor that is closed by the end of this process alone
		if _, err := unix.FcntlInt(starter.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return err
		}
	}
	if _, err := starter.Write([]byte{1}); err != nil {
		return fmt.Errorf("%w; see %s", err, file(dir, "log/init.log"))
	}
	// Who enters it before would see the files of the machine outside.
	if _, err := furnished.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("it is not furnished: %w; see %s", err, file(dir, "log/init.log"))
	}
	init.Furnished = true
	return writeJSON(file(dir, "process.json"), init)
}

// Stop kills the machine as a loss of power does. Its folder stays, for another Start.
func Stop(ctx context.Context, dir string) error {
	var init Process
	err := readJSON(file(dir, "process.json"), &init)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = init.kill(ctx)
	}
	if err == nil {
		err = os.Remove(file(dir, "process.json"))
	}
	if err != nil {
		return fmt.Errorf("stopping machine %s: %w", filepath.Base(dir), err)
	}
	return nil
}

// Remove stops the machine and removes all that is left of it. It does so too
// with one that was never whole.
func Remove(ctx context.Context, dir string) error {
	if err := Stop(ctx, dir); err != nil {
		return err
	}
	spec, err := Load(dir)
	if err == nil {
		err = removeGroups(ctx, spec.Groups)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // nothing was made before machine.json but folders
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("removing machine %s: %w", filepath.Base(dir), err)
	}
	return nil
}
