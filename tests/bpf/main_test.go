// SPDX-License-Identifier: Apache-2.0

// Package bpf_test runs the kernel programs on single packets with
// BPF_PROG_TEST_RUN and looks at verdicts, counters, conntrack and events.
package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// insideEnv marks the process that runs in a network namespace of its own.
const insideEnv = "WEFT_BPF_TEST_INSIDE"

// TestMain runs the tests in a private network namespace, which goes away with
// the process: the devices that packets are said to come from must exist.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "FAIL: tests/bpf load kernel programs and must run as root")
		os.Exit(1)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: starting the tests in a network namespace:", err)
		os.Exit(1)
	}
}
