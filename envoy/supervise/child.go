// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// child is one process of Envoy.
type child struct {
	process
	epoch   int
	started time.Time
}

// exit is the end of a process.
type exit struct {
	*child
	lived time.Duration
}

func startChild(cfg Config, epoch int, output *os.File) (*child, error) {
	args, err := arguments(cfg, epoch)
	if err != nil {
		return nil, err
	}
	var group *os.File
	if cfg.Cgroup != "" {
		if group, err = openCgroup(cfg.Cgroup); err != nil {
			return nil, err
		}
		defer group.Close()
	}
	pid, err := startApart(append([]string{cfg.Binary}, args...), group, output)
	if err != nil {
		return nil, err
	}
	p, err := watch(pid)
	if err != nil {
		return nil, err
	}
	return &child{process: p, epoch: epoch, started: time.Now()}, nil
}

// plainArguments are those of every epoch. The sockets of hot restarts are files that
// only root may use, not abstract ones, which any process on the host could take.
func plainArguments(cfg Config) []string {
	drain := int(cfg.Drain.Seconds())
	args := []string{"-c", cfg.file(bootstrapFile), "-l", "warn", "--skip-deprecated-logs",
		"--concurrency", strconv.Itoa(cfg.Concurrency),
		"--socket-path", cfg.file(restartSocket), "--socket-mode", "600",
		"--drain-time-s", strconv.Itoa(drain), "--parent-shutdown-time-s", strconv.Itoa(drain + 1)}
	if cfg.inPod() {
		// Whoever leaves finds another Envoy: each client is asked to with its next answer.
		args = append(args, "--drain-strategy", "immediate")
	}
	return args
}

// arguments of the process of an epoch.
func arguments(cfg Config, epoch int) ([]string, error) {
	args := append(plainArguments(cfg), "--restart-epoch", strconv.Itoa(epoch), "--skip-hot-restart-on-no-parent")
	if epoch == 0 {
		return append(args, "--use-dynamic-base-id", "--base-id-path", cfg.file(baseFile)), nil
	}
	base, err := os.ReadFile(cfg.file(baseFile))
	if err != nil {
		return nil, fmt.Errorf("reading the number by which Envoys find each other: %w", err)
	}
	return append(args, "--base-id", strings.TrimSpace(string(base))), nil
}

// MakeCgroup makes Envoy's control group, if it is missing: who must know the group
// before Envoy is in it does so itself.
func MakeCgroup(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making Envoy's control group: %w", err)
	}
	return nil
}

func openCgroup(path string) (*os.File, error) {
	if err := MakeCgroup(path); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening Envoy's control group: %w", err)
	}
	return dir, nil
}

func (c *child) end() exit {
	c.wait()
	return exit{child: c, lived: time.Since(c.started)}
}

// A process that has ended already needs no signal.
func (c *child) terminate() { _ = c.signal(unix.SIGTERM) }
func (c *child) kill()      { _ = c.signal(unix.SIGKILL) }
