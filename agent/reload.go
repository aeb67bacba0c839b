// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/daemon"
)

// followConfiguration takes over what may change while the agent runs, when the
// configuration is to be read again. Each reading is compared with what is running then.
func (a *agent) followConfiguration(ctx context.Context, path string) error {
	running := a.cfg
	daemon.Reread(ctx, path, func() { running = a.reload(running, path) })
	return nil
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
