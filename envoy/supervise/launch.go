// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

// Flags of weft-envoy, in one place for who starts it and who reads them.
const (
	FlagEnvoy       = "envoy"
	FlagNode        = "node"
	FlagRunDir      = "run-dir"
	FlagCgroup      = "cgroup"
	FlagConcurrency = "concurrency"
	FlagHeap        = "max-heap-bytes"
	FlagConnections = "max-connections"
	FlagDrain       = "drain"
	FlagDir         = "dir" // of pods alone, as the next
	FlagPod         = "pod"
)

// Arguments of a weft-envoy that does what a configuration says.
func (c Config) Arguments() []string {
	return []string{
		"--" + FlagEnvoy + "=" + c.Binary,
		"--" + FlagNode + "=" + c.Bootstrap.Node,
		"--" + FlagRunDir + "=" + c.Bootstrap.RunDir,
		"--" + FlagCgroup + "=" + c.Cgroup,
		"--" + FlagConcurrency + "=" + strconv.Itoa(c.Concurrency),
		"--" + FlagHeap + "=" + strconv.FormatUint(c.Bootstrap.MaxHeapBytes, 10),
		"--" + FlagConnections + "=" + strconv.FormatUint(c.Bootstrap.MaxConnections, 10),
		"--" + FlagDrain + "=" + c.Drain.String(),
	}
}

// Launch has the binary weft-envoy run for a configuration, apart from the caller: it
// and Envoy stay when the caller ends, also by its service manager, for they are in
// Envoy's control group. One that runs so already is left alone; one that runs
// otherwise is replaced, while its Envoy serves until the new one has taken over. Who
// wants it to go on running calls Launch again and again.
func Launch(ctx context.Context, weftEnvoy string, cfg Config) error {
	pid, is, err := holder(cfg)
	if err != nil {
		return err
	}
	if pid != 0 && slices.Equal(is, identity(cfg.Arguments())) {
		return nil
	}
	if pid != 0 {
		if err := dismiss(ctx, pid, syscall.SIGUSR1, cfg); err != nil {
			return err
		}
	}
	return detach(weftEnvoy, cfg)
}

// EndIdle ends weft-envoy and its Envoy if that has no client, and tells whether one ran
// and was ended.
func EndIdle(ctx context.Context, cfg Config) (bool, error) {
	pid, _, err := holder(cfg)
	if err != nil || pid == 0 {
		return false, err
	}
	if n, err := newAdmin(cfg.file(bootstrap.AdminSocket)).connections(ctx); err != nil || n > 0 {
		return false, err
	}
	if err := dismiss(ctx, pid, syscall.SIGTERM, cfg); err != nil {
		return false, err
	}
	return true, nil
}

// dismiss has a supervisor go: by USR1 without its Envoy, by TERM with it.
func dismiss(ctx context.Context, pid int, by syscall.Signal, cfg Config) error {
	if err := syscall.Kill(pid, by); err != nil {
		return fmt.Errorf("asking the supervisor %d to leave: %w", pid, err)
	}
	tick := time.NewTicker(look / 20)
	defer tick.Stop()
	for {
		now, _, err := holder(cfg)
		if err != nil || now != pid {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the supervisor %d to leave: %w", pid, context.Cause(ctx))
		}
	}
}

func detach(weftEnvoy string, cfg Config) error {
	log, err := openLog(cfg.file(logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(weftEnvoy, cfg.Arguments()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cfg.Cgroup != "" {
		dir, err := openCgroup(cfg.Cgroup)
		if err != nil {
			return err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting weft-envoy: %w", err)
	}
	go func() { _ = cmd.Wait() }() // takes its status, should it end before the caller
	return nil
}
