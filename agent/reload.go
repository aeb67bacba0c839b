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
// change while the agent runs. Each reading is compared with what is running then.
func (a *agent) reloadOnHangup(ctx context.Context, path string) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	running := a.cfg
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			running = a.reload(running, path)
		}
	}
}

// reload returns the configuration to go on with. A faulty file changes nothing.
func (a *agent) reload(running config.Config, path string) config.Config {
	read, err := config.Load(path)
	if err != nil {
		a.log.Error("the configuration is faulty, the old one stays", "error", err)
		return running
	}
	next, changed, waiting := config.Reload(running, read)
	a.level.Set(next.LogLevel.Level())
	a.log.Info("configuration read again", "changed", changed, "changeAtRestart", waiting)
	return next
}
