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
// Main for the argument "machine". When network has given the machine its links
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
		groups, err := makeGroups(spec.CgroupName)
		if err != nil {
			return fmt.Errorf("making machine %s: %w", name, err)
		}
		spec.Groups = groups
	}
	if err := writeJSON(file(dir, "machine.json"), spec); err != nil {
		return fmt.Errorf("making machine %s: %w", name, err)
	}
	return run(dir, binary, listener, network)
}

func diskFolders(spec Spec) []string {
	var all []string
	for _, d := range spec.Disk {
		all = append(all, filepath.Join("disk", d))
	}
	return all
}

func run(dir, binary string, listener *os.File, network func(pid int) error) error {
	name := filepath.Base(dir)
	log, err := os.OpenFile(file(dir, "log/init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("starting machine %s: %w", name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(binary, "machine", dir)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true}
	if listener != nil {
		cmd.ExtraFiles = []*os.File{listener}
	}
	starter, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting machine %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting machine %s: %w", name, err)
	}
	init, ok := look(cmd.Process.Pid)
	if !ok {
		return fmt.Errorf("starting machine %s: it ended at once; see %s", name, file(dir, "log/init.log"))
	}
	// From here on Remove finds it. Until it reads the byte it does nothing, and it
	// ends when the pipe does.
	err = writeJSON(file(dir, "process.json"), init)
	if err == nil {
		err = network(init.PID)
	}
	if err == nil {
		_, err = starter.Write([]byte{1})
	}
	if err = errors.Join(err, starter.Close()); err != nil {
		return fmt.Errorf("starting machine %s: %w", name, err)
	}
	return nil
}

// Stop kills the machine as a loss of power does. Its folder stays, and its
// cgroups, for another Start.
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
