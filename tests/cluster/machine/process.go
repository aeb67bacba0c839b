// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a process and the time it began (in ticks since boot), so that
// another one that got its number later is not taken for it.
type Process struct {
	PID   int
	Start uint64
	// Furnished, of PID 1: it has its file system together, and may be entered.
	Furnished bool `json:",omitempty"`
}

// look reads /proc; a process that is a zombie counts as gone.
func look(pid int) (Process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, false
	}
	// The name, in parentheses, may hold anything; after it come state and numbers.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return Process{}, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return Process{PID: pid, Start: start}, err == nil
}

// Alive tells whether this very process still runs.
func (p Process) Alive() bool {
	now, ok := look(p.PID)
	return ok && now.Start == p.Start
}

// kill ends it (SIGKILL) and waits until it is gone. PID 1 of a namespace is
// gone when every process in it is.
func (p Process) kill(ctx context.Context) error {
	fd, err := pidfd(p)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := sendSignal(fd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing process %d: %w", p.PID, err)
	}
	return waitFor(ctx, 30*time.Second, fmt.Sprintf("process %d to end", p.PID), func() bool {
		reap(p.PID)
		return !p.Alive()
	})
}

// reap takes the exit status of a child, if it is ours, so that it is no zombie.
func reap(pid int) {
	var status syscall.WaitStatus
	_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
}

// PID1 is the first process of a machine that runs.
func PID1(dir string) (Process, error) {
	var p Process
	err := readJSON(file(dir, "process.json"), &p)
	if err == nil && !(p.Furnished && p.Alive()) {
		err = errors.New("it does not run")
	}
	if err != nil {
		return p, fmt.Errorf("finding machine %s: %w", filepath.Base(dir), err)
	}
	return p, nil
}

// ServiceProcess is the running process of a service, as the machine outside
// knows it.
func ServiceProcess(dir, service string) (Process, error) {
	init, err := PID1(dir)
	if err != nil {
		return Process{}, err
	}
	for _, pid := range children(init.PID) {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue // ended
		}
		if p, ok := look(pid); ok && strings.Contains("\x00"+string(env), "\x00"+serviceEnv+"="+service+"\x00") {
			return p, nil
		}
	}
	return Process{}, fmt.Errorf("machine %s: service %s does not run now", filepath.Base(dir), service)
}

// Signal sends a signal to the running process of a service.
func Signal(dir, service string, sig syscall.Signal) error {
	p, err := ServiceProcess(dir, service)
	if err != nil {
		return err
	}
	fd, err := pidfd(p)
	if err != nil {
		return fmt.Errorf("service %s: %w", service, err)
	}
	defer func() { _ = syscall.Close(fd) }()
	return sendSignal(fd, sig)
}

// Processes are all of a machine: what PID 1 has started and what has entered, with
// what those have started in namespaces of their own.
func Processes(dir string) ([]Process, error) {
	init, err := PID1(dir)
	if err != nil {
		return nil, err
	}
	space := func(pid int) string {
		ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) // of one that has ended: none
		return ns
	}
	every, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var queue []int
	for _, p := range every {
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && space(pid) == space(init.PID) {
			queue = append(queue, pid)
		}
	}
	var all []Process
	seen := make(map[int]bool)
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		queue = append(queue, children(pid)...)
		if p, ok := look(pid); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, l := range lists {
		content, err := os.ReadFile(l)
		if err != nil {
			continue // a thread that ended
		}
		for f := range strings.FieldsSeq(string(content)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

func waitFor(ctx context.Context, within time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %s for %s: %w", within, what, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
