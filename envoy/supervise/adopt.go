// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// pidFile tells the next supervisor which process serves.
const pidFile = "envoy.pid"

// born tells a process from a later one with its number: when it was started, in
// ticks since boot, 0 if it is not there.
func born(pid int) (ticks uint64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command, in brackets, may have any characters.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const start = 22 - 3 // of proc(5), from the field after the command
	if len(fields) <= start {
		return 0
	}
	if _, err := fmt.Sscan(fields[start], &ticks); err != nil {
		return 0
	}
	return ticks
}

func (s *Supervisor) remember(c *child) error {
	text := fmt.Sprintf("%d %d %d %s\n", c.pid, born(c.pid), c.epoch, s.runs)
	return writeFile(s.cfg.file(pidFile), []byte(text))
}

// adopt takes charge of an Envoy that an earlier supervisor has left. One that does
// not answer in time is of no use, and ended: two that know nothing of each other
// would share connections.
func (s *Supervisor) adopt(ctx context.Context) error {
	text, err := os.ReadFile(s.cfg.file(pidFile))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for an Envoy that runs: %w", err)
	}
	var pid, epoch int
	var since uint64
	var runs string
	if n, err := fmt.Sscan(string(text), &pid, &since, &epoch, &runs); n < 4 || born(pid) != since || since == 0 {
		s.log.Info("no Envoy is left of an earlier time", "pid", pid, "error", err)
		return nil
	}
	p, err := watch(pid)
	if err != nil {
		return nil // it has just ended
	}
	c := &child{process: p, epoch: epoch, started: time.Now()}
	go func() { s.exits <- c.end() }() // until the process ends, or this one does
	for deadline := time.Now().Add(ending); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(look / 20) {
		if now, is := s.admin.epoch(ctx); is && now == epoch {
			s.log.Info("an Envoy runs, and stays", "epoch", epoch, "pid", pid)
			s.children[epoch], s.newest, s.live, s.runs = c, epoch, true, runs
			return nil
		}
		if born(pid) != since {
			break
		}
	}
	s.log.Warn("an Envoy that runs does not answer, and is ended", "pid", pid)
	c.kill()
	return nil
}
