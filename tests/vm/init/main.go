// SPDX-License-Identifier: Apache-2.0

// Command init is PID 1 of a virtual machine that tests boot: it furnishes the
// machine, loads kernel modules, runs what its plan says, tells each command's
// result on the console, and powers off.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/vm/script"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is PID 1 of a virtual machine, nothing else")
		os.Exit(1)
	}
	if err := boot(); err != nil {
		fmt.Printf("%s%v\n", script.TroubleMark, err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func boot() error {
	if err := furnish(); err != nil {
		return err
	}
	raw, err := os.ReadFile(script.PlanFile)
	if err != nil {
		return fmt.Errorf("reading the plan: %w", err)
	}
	var plan script.Plan
	if err := json.Unmarshal(raw, &plan); err != nil {
		return fmt.Errorf("reading the plan: %w", err)
	}
	for _, m := range plan.Modules {
		if err := load(m); err != nil {
			return fmt.Errorf("loading the kernel module %s: %w", filepath.Base(m), err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for _, c := range plan.Commands {
		begin := time.Now()
		status := run(c)
		fmt.Printf("\n%s%s %d %.1f\n", script.ResultMark, c.Name, status, time.Since(begin).Seconds())
	}
	return nil
}

// furnish mounts what every Linux host has.
func furnish() error {
	for _, m := range []struct{ kind, dir, options string }{
		{"devtmpfs", "/dev", ""},
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"bpf", "/sys/fs/bpf", "mode=700"},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"tmpfs", "/run", "mode=755"},
		{"tmpfs", "/tmp", ""},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", m.dir, err)
		}
		err := unix.Mount(m.kind, m.dir, m.kind, 0, m.options)
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted /dev itself
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	for _, dir := range []string{"/etc", "/opt", "/var/lib"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

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

// run gives a command's exit status; one that cannot run or took too long has
// -1.
func run(c script.Command) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.WithinSeconds)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append([]string{"PATH=/bin", "HOME=/", "TERM=dumb"}, c.Env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		fmt.Printf("%s did not end within %d s\n", c.Name, c.WithinSeconds)
		return -1
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Printf("%s: %v\n", c.Name, err)
		return -1
	}
	return 0
}
