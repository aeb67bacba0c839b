// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/weftmesh/weft/daemonset/cni/install"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/config"
)

// cniFiles says where the CNI plugin and its configuration belong.
func cniFiles(cfg config.Config) install.Config {
	return install.Config{
		BinDir: cfg.CNI.BinDir, ConfDir: cfg.CNI.ConfDir,
		Socket: filepath.Join(cfg.RunDir, "cni.sock"), StateDir: cfg.StateDir,
	}
}

// keepCNIFiles installs them, if that is the agent's task.
func (a *agent) keepCNIFiles(ctx context.Context) error {
	if a.cniFiles == nil {
		return nil
	}
	return a.cniFiles.Run(ctx)
}

// cniFilesStatus is the line of the CNI plugin in weft status, where the agent
// installs it.
func (a *agent) cniFilesStatus() *agentv1.ComponentStatus {
	out := &agentv1.ComponentStatus{Name: "cni", Health: agentv1.Health_HEALTH_OK}
	path, installed, faults := a.cniFiles.Installed()
	switch {
	case len(faults) > 0:
		out.Health = agentv1.Health_HEALTH_DEGRADED
		out.Message = strings.Join(faults, "; ")
	case !installed:
		out.Message = "the configuration is installed when an ADD can be served"
	default:
		out.Message = path
	}
	return out
}
