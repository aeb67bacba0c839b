// SPDX-License-Identifier: Apache-2.0

// Package cni_test runs the real plugin against the agent's real CNI server, with
// real devices, in a network and mount namespace of its own. What stands in for the
// rest of the agent are tables in memory, and a kernel that says what a test wants.
package cni_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	insideEnv = "WEFT_CNI_TEST_INSIDE"
	pluginBin = "/run/weft-cni"
)

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(reexec())
	}
	if err := prepareHost(); err != nil {
		fmt.Fprintln(os.Stderr, "setting up the test's host:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// reexec runs the tests in new namespaces, which vanish with them.
func reexec() int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces: run them as root")
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "entering new namespaces:", err)
		return 1
	}
	return 0
}

// prepareHost gives the namespace what a host has: a /run, addresses, the plugin.
func prepareHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", hostIPv4 + "/32", "dev", "lo"},
		{"addr", "add", hostIPv6 + "/128", "dev", "lo", "nodad"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	build := exec.Command("go", "build", "-o", pluginBin, "github.com/weftmesh/weft/daemonset/cni")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the plugin: %w: %s", err, out)
	}
	return nil
}
