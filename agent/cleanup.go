// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/daemonset/cni/install"
	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/config"
	"github.com/weftmesh/weft/pkg/datapath"
)

// cleanup removes every trace of Weft from the node. It refuses while an agent
// runs, which would bring back what is removed.
func cleanup(cfg config.Config) error {
	lock, err := lockNode(cfg.RunDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	files := []string{
		filepath.Join(cfg.RunDir, "agent.sock"),
		filepath.Join(cfg.RunDir, "cni.sock"),
		filepath.Join(cfg.RunDir, "agent.lock"),
		filepath.Join(cfg.RunDir, bootstrap.ADSSocket),
		filepath.Join(cfg.RunDir, bootstrap.ALSSocket),
		filepath.Join(cfg.RunDir, server.SnapshotFile),
	}
	_, err = nodenet.RemoveTunnel()
	err = errors.Join(err,
		removeProxy(cfg),
		supervise.RemoveBlocks(cfg.RunDir),
		datapath.Cleanup(pinDir(cfg)),
		install.Remove(cniFiles(cfg)),
		nodenet.Cleanup(nodenet.CleanupConfig{StateDir: cfg.StateDir, Files: files}),
	)
	os.Remove(cfg.RunDir) //nolint:errcheck // not ours if it holds more, or is a mount point
	return err
}

// removeProxy ends Envoy, which would go on without an agent.
func removeProxy(cfg config.Config) error {
	run, err := proxyConfig(cfg)
	if errors.Is(err, cgroup.ErrNone) {
		return nil // there can be none
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	return supervise.Remove(ctx, run)
}

// removeWithin is how long processes that are killed may take to be gone.
const removeWithin = 20 * time.Second
