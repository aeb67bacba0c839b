// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/weftmesh/weft/pkg/config"
)

// reloadOnHangup reads the configuration again on SIGHUP and takes over what may
// change while the agent runs. A faulty file changes nothing.
func (a *agent) reloadOnHangup(ctx context.Context, path string) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
		}
		next, err := config.Load(path)
		if err != nil {
			a.log.Error("the configuration is faulty, the old one stays", "error", err)
			continue
		}
		running, changed, waiting := config.Reload(a.cfg, next)
		a.level.Set(running.LogLevel.Level())
		a.log.Info("configuration read again", "changed", changed, "changeAtRestart", waiting)
	}
}
