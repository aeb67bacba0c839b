// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/pkg/attachment"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/daemon"
)

// healthWithin is how long Envoy may take to tell how it is.
const healthWithin = 3 * time.Second

// podCommand runs Envoy as a container's first process does.
func podCommand() *cobra.Command {
	cfg := supervise.Default()
	// The threads that the container may use: weft-envoy's own number follows its limit.
	cfg.Concurrency = min(runtime.GOMAXPROCS(0), supervise.MaxThreads)
	cmd := &cobra.Command{
		Use:   "pod",
		Short: "Keep an Envoy running in a pod, beside which another one may take over",
		Long: `pod keeps Envoy running as the first process of a container, and takes the first block
of ports that no other Envoy of the node has. On TERM it has clients leave, and ends.
The memory that Envoy may take is three quarters of the container's, if that is limited.`,
		Args: daemon.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Bootstrap.Proxy.Pod == "" {
				return errors.New("--" + supervise.FlagPod + " is needed")
			}
			if !cmd.Flags().Changed(supervise.FlagHeap) {
				limit, err := cgroup.MemoryLimit()
				if err != nil {
					return fmt.Errorf("finding how much memory Envoy may take: %w", err)
				}
				if limit > 0 {
					cfg.Bootstrap.MaxHeapBytes = limit / 4 * 3
				}
			}
			return run(cmd.Context(), cfg, false)
		},
	}
	flags(cmd, &cfg)
	cmd.Flags().StringVar(&cfg.Bootstrap.Dir, supervise.FlagDir, "/run/envoy", "folder of this Envoy's own")
	cmd.Flags().StringVar(&cfg.Bootstrap.Proxy.Pod, supervise.FlagPod, "", "UID of the pod")
	return cmd
}

// healthCommand is a readiness probe.
func healthCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Tell whether the Envoy of a pod can take the place of another",
		Args:  daemon.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithTimeout(cmd.Context(), healthWithin)
			defer stop()
			return supervise.Health(ctx, dir)
		},
	}
	cmd.Flags().StringVar(&dir, supervise.FlagDir, "/run/envoy", "folder of the Envoy")
	return cmd
}

// installCommand puts weft-envoy where a container of another image finds it.
func installCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install FOLDER",
		Short: "Copy weft-envoy into a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding weft-envoy's binary: %w", err)
			}
			text, err := os.ReadFile(self)
			if err != nil {
				return fmt.Errorf("reading weft-envoy's binary: %w", err)
			}
			return attachment.WriteFile(filepath.Join(args[0], "weft-envoy"), text, 0o755)
		},
	}
}
