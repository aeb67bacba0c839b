// SPDX-License-Identifier: Apache-2.0

// Command weft-agent is the node agent: it keeps the kernel's programs and maps
// as pods and policies ask, and tells what flows. It may be stopped, killed and
// replaced at any time; traffic goes on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/pkg/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "weft-agent:", err)
		stop()
		os.Exit(exitCode(err))
	}
}

// usageError is a command line that was not understood.
type usageError struct{ error }

// exitCode is 2 for wrong usage, as that of weft is, and 1 for all else.
func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see %s --help", args[0], c.CommandPath())}
	}
	return nil
}

func command() *cobra.Command {
	var path string
	root := &cobra.Command{
		Use:   "weft-agent",
		Short: "The node agent of Weft",
		Long: `weft-agent is the node agent of Weft. Without a command it runs in the foreground
until TERM or INT; HUP makes it read its configuration again. It may be stopped,
killed and replaced at any time: traffic and policy go on without it.
The command weft shows what it knows and does.`,
		Args:          noArgs,
		Version:       weft.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			return run(cmd.Context(), cfg, path)
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.PersistentFlags().StringVar(&path, "config", config.DefaultPath, "configuration file")
	root.AddCommand(&cobra.Command{
		Use:   "cleanup",
		Short: "Remove every trace of Weft from this node; pods that are attached lose their network",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if err := cleanup(cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "Weft is removed from this node; its configuration and manifests stay")
			return err
		},
	}, &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), weft.Version())
			return err
		},
	})
	return root
}
