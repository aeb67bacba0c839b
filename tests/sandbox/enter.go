// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs tests and the demo on a host of their own: new mount,
// network, PID, UTS and IPC namespaces with private /run, /etc, /var/lib, /opt
// and /sys/fs/bpf, and in a cgroup of their own, so that programs on sockets see
// no other process. Whatever is made inside vanishes with it, also when it is
// killed (but for the empty cgroup, which the next one removes), and the machine
// outside is never touched. It needs root and nothing else: no external program
// is called.
//
// Inside, it gives tests what a container runtime and workloads would do:
// network namespaces of pods (NS), calls of the CNI plugin (Runtime), the agent
// as a process (Agent), and traffic with exact counts of what failed.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stageEnv tells a re-executed process which part it plays.
const stageEnv = "WEFT_SANDBOX_STAGE"

// pidEnv tells the worker the number of the sandbox's PID 1 outside.
const pidEnv = "WEFT_SANDBOX_PID"

const (
	stageInit   = "init"   // PID 1 inside: mounts, then starts the worker and reaps
	stageWorker = "worker" // the program itself, inside
)

// Main runs a package's tests inside a sandbox. Call it from TestMain.
func Main(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// Enter returns only inside the sandbox. Outside, it runs the current program
// again inside, with the same arguments, passes signals in, and exits with its
// status (128 plus the number of the signal that killed it). Where there is no
// right or no kernel feature for it, it says so in one line and exits 1.
func Enter() {
	switch os.Getenv(stageEnv) {
	case stageWorker:
		return
	case stageInit:
		os.Exit(runInit())
	default:
		os.Exit(runOutside())
	}
}

// OuterPID is the sandbox's PID 1 as the machine outside numbers it, for
// nsenter.
func OuterPID() string { return os.Getenv(pidEnv) }

// runOutside starts PID 1 of the sandbox and waits for it.
func runOutside() int {
	if os.Geteuid() != 0 {
		return fail(errors.New("this needs root (it makes namespaces of its own): run it as root or with sudo"))
	}
	group, err := makeCgroup()
	if err != nil {
		return fail(err)
	}
	defer group.remove()
	// Pdeathsig is sent when the thread that forked ends, not the process.
	runtime.LockOSThread()
	cmd := reexec(stageInit)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // a terminal's Ctrl-C reaches us only, and is passed in once

		UseCgroupFD: true,
		CgroupFD:    int(group.dir.Fd()),
	}
	cmd.Env = append(cmd.Env, cgroupEnv+"="+group.path)
	signals := notify()
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("making namespaces: %w (in a container? it needs CAP_SYS_ADMIN)", err))
	}
	go func() { // ends with the process
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return status(exit.Sys().(syscall.WaitStatus))
	}
	return fail(fmt.Errorf("waiting for the sandbox: %w", err))
}

// runInit is PID 1: it sets the place up, runs the worker and adopts orphans.
func runInit() int {
	outside, err := os.Readlink("/proc/self") // still the outer /proc
	if err != nil {
		return fail(fmt.Errorf("finding the sandbox's own number: %w", err))
	}
	if err := furnish(); err != nil {
		return fail(err)
	}
	if err := bindCgroup(os.Getenv(cgroupEnv)); err != nil {
		return fail(err)
	}
	cmd := reexec(stageWorker)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmpDir, pidEnv+"="+outside)
	signals := notify()
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("starting inside the sandbox: %w", err))
	}
	go func() { // ends with the process
		for s := range signals {
			_ = syscall.Kill(cmd.Process.Pid, s.(syscall.Signal))
		}
	}()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fail(fmt.Errorf("waiting inside the sandbox: %w", err))
		case pid == cmd.Process.Pid:
			return status(ws)
		}
	}
}

func reexec(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageEnv+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func notify() chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	return c
}

func status(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	return 1
}
