// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/daemonset/cni/install"
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
	}
	_, err = nodenet.RemoveTunnel()
	err = errors.Join(err,
		datapath.Cleanup(pinDir(cfg)),
		install.Remove(cniFiles(cfg)),
		nodenet.Cleanup(nodenet.CleanupConfig{StateDir: cfg.StateDir, Files: files}),
	)
	os.Remove(cfg.RunDir) //nolint:errcheck // not ours if it holds more, or is a mount point
	return err
}
