// SPDX-License-Identifier: Apache-2.0

// Command weft-envoy keeps the node's Envoy running, apart from the agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/pkg/daemon"
	"github.com/weftmesh/weft/pkg/logging"
)

func main() {
	if inner, err := supervise.Inner(os.Args); inner {
		if err != nil {
			fmt.Fprintf(os.Stderr, "weft-envoy: %v\n", err)
			os.Exit(1)
		}
		return
	}
	daemon.Main(command())
}

func command() *cobra.Command {
	cfg := supervise.Default()
	cmd := &cobra.Command{
		Use:   "weft-envoy",
		Short: "Keep the node's Envoy running",
		Long: `weft-envoy keeps the node's Envoy running until TERM or INT, when it has clients
leave and ends Envoy. HUP, or another binary, replaces Envoy without refusing a
connection. USR1 ends weft-envoy alone; the next one takes over the Envoy that runs.`,
		Args:          daemon.NoArgs,
		Version:       weft.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), cfg, true) },
	}
	flags(cmd, &cfg)
	cmd.Flags().StringVar(&cfg.Cgroup, supervise.FlagCgroup, "", "folder on cgroup2 for Envoy, made if it is missing; empty: where weft-envoy is")
	cmd.AddCommand(podCommand(), healthCommand(), installCommand())
	return cmd
}

// flags that say how Envoy runs, wherever it does.
func flags(cmd *cobra.Command, cfg *supervise.Config) {
	f := cmd.Flags()
	f.StringVar(&cfg.Binary, supervise.FlagEnvoy, "/usr/local/bin/envoy", "Envoy's binary")
	f.StringVar(&cfg.Bootstrap.Node, supervise.FlagNode, "node", "name of the node")
	f.StringVar(&cfg.Bootstrap.RunDir, supervise.FlagRunDir, "/run/weft", "folder of the node's sockets")
	f.IntVar(&cfg.Concurrency, supervise.FlagConcurrency, cfg.Concurrency, "threads that serve, at most 4")
	f.Uint64Var(&cfg.Bootstrap.MaxHeapBytes, supervise.FlagHeap, cfg.Bootstrap.MaxHeapBytes, "bytes of memory from which on Envoy refuses work")
	f.Uint64Var(&cfg.Bootstrap.MaxConnections, supervise.FlagConnections, cfg.Bootstrap.MaxConnections, "clients at the same time")
	f.DurationVar(&cfg.Drain, supervise.FlagDrain, cfg.Drain, "how long connections may go on in an Envoy that is replaced or ended")
}

// run keeps Envoy running; where it leaves Envoy to another supervisor, USR1 asks it to.
func run(ctx context.Context, cfg supervise.Config, leaves bool) error {
	if cfg.Concurrency < 1 || cfg.Concurrency > supervise.MaxThreads {
		return errors.New("concurrency must be 1 to 4")
	}
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	if leaves {
		signal.Notify(signals, syscall.SIGUSR1)
	}
	reload := make(chan struct{})
	go func() { // until ctx ends
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig == syscall.SIGUSR1 {
					leave(supervise.ErrLeave)
					return
				}
				select {
				case reload <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}
	}()
	return supervise.New(cfg, reload, logging.New(new(slog.LevelVar), os.Stderr)).Run(ctx)
}
