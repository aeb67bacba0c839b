// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

// Remove ends all that runs in Envoy's control group, supervisors included, and takes
// the group and the files away. Connections that Envoy has end.
func Remove(ctx context.Context, cfg Config) error {
	if err := removeGroup(ctx, cfg.Cgroup); err != nil {
		return err
	}
	names := []string{bootstrapFile, baseFile, logFile, troubleFile, lockFile, pidFile, bootstrap.AdminSocket}
	var errs []error
	for _, name := range names {
		if err := os.Remove(cfg.file(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing what is of Envoy: %w", err))
		}
	}
	sockets, err := filepath.Glob(cfg.file(restartSocket) + "*")
	if err != nil {
		return fmt.Errorf("looking for what is of Envoy: %w", err)
	}
	for _, path := range sockets {
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// removeGroup needs Linux 5.14 for cgroup.kill.
func removeGroup(ctx context.Context, dir string) error {
	err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ending Envoy: %w", err)
	}
	tick := time.NewTicker(look / 50)
	defer tick.Stop()
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("removing Envoy's control group: %w", err)
		}
		select {
		case <-tick.C: // killed processes take a moment to be gone
		case <-ctx.Done():
			return fmt.Errorf("waiting for Envoy to end: %w", context.Cause(ctx))
		}
	}
}
