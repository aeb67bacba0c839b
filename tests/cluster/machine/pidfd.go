// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// errGone: the process has ended, whoever has its number now.
var errGone = errors.New("the process has ended")

// pidfd holds on to a process: a signal through it reaches no other, however
// long ago the process was looked up.
func pidfd(p Process) (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, errGone
	}
	if err != nil {
		return -1, fmt.Errorf("holding on to process %d: %w", p.PID, err)
	}
	if !p.Alive() {
		_ = unix.Close(fd)
		return -1, errGone
	}
	return fd, nil
}

func sendSignal(fd int, sig syscall.Signal) error {
	err := unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
