// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Envoy asks the kernel for a TERM when its parent ends. It is to outlive the
// supervisor, so it must not be its child when it asks: a first process starts a
// second one and ends; the second waits for that, and becomes Envoy.
const (
	argApart  = "start-apart"
	argBecome = "become"
)

// Inner does the part of such a process, and tells whether this was one: main calls
// it before all else.
func Inner(args []string) (bool, error) {
	if len(args) < 3 {
		return false, nil
	}
	switch args[1] {
	case argApart:
		return true, apart(args[2:])
	case argBecome:
		return true, become(args[2:])
	default:
		return false, nil
	}
}

// startApart starts a command as nobody's child, in a control group, and gives its
// number.
func startApart(argv []string, group *os.File, output *os.File) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding weft-envoy's binary: %w", err)
	}
	var number bytes.Buffer
	cmd := exec.Command(self, append([]string{argApart}, argv...)...)
	cmd.Stdout = &number
	cmd.Stderr = output // the file itself, so that Envoy can write also when the supervisor is gone
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if group != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("starting Envoy: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(number.String()))
	if err != nil {
		return 0, fmt.Errorf("starting Envoy: %w", err)
	}
	return pid, nil
}

func apart(argv []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding weft-envoy's binary: %w", err)
	}
	wait, _, err := os.Pipe() // nobody writes: the other end closes when this process ends
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	cmd := exec.Command(self, append([]string{argBecome}, argv...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.ExtraFiles = []*os.File{wait}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the second process: %w", err)
	}
	_, err = fmt.Println(cmd.Process.Pid)
	return err
}

func become(argv []string) error {
	const first = 3 // of the files that are handed on
	wait := os.NewFile(first, "wait")
	if _, err := io.Copy(io.Discard, wait); err != nil {
		return fmt.Errorf("waiting for the first process: %w", err)
	}
	if err := wait.Close(); err != nil {
		return fmt.Errorf("closing the pipe: %w", err)
	}
	// A connection takes two files, a listener one in each thread.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the limit of files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raising the limit of files: %w", err)
	}
	return fmt.Errorf("becoming %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
}

// process is one that is not a child.
type process struct {
	pid int
	fd  int // a pidfd: another process with the number is never meant
}

func watch(pid int) (process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return process{}, fmt.Errorf("watching process %d: %w", pid, err)
	}
	return process{pid, fd}, nil
}

// wait returns when the process has ended. Where the supervisor is the first process
// of its container it becomes the parent, and takes the status.
func (p process) wait() {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
	_ = unix.Close(p.fd)
}

func (p process) signal(sig unix.Signal) error {
	return unix.PidfdSendSignal(p.fd, sig, nil, 0)
}
