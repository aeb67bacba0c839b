// SPDX-License-Identifier: Apache-2.0

// Package daemon is the command line of Weft's programs that run until they are
// told to end: weft-agent and weft-operator.
package daemon

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

// Load reads the configuration that the command line names.
type Load func() (config.Config, error)

// Command is a program's command line: without a command it runs, with the
// configuration and the path of its file. Flag --config and command version are in it.
func Command(name, short, long string, run func(ctx context.Context, cfg config.Config, path string) error) (*cobra.Command, Load) {
	var path string
	load := func() (config.Config, error) { return config.Load(path) }
	root := &cobra.Command{
		Use:           name,
		Short:         short,
		Long:          long,
		Args:          NoArgs,
		Version:       weft.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
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
		Use:   "version",
		Short: "Print the version",
		Args:  NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), weft.Version())
			return err
		},
	})
	return root, load
}

// Main runs a command line until it ends, or INT or TERM does it, and exits the
// process if it failed: with 2 for wrong usage, as weft does, with 1 for all else.
func Main(root *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
		stop()
		os.Exit(exitCode(err))
	}
}

// NoArgs is for commands without arguments.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see %s --help", args[0], c.CommandPath())}
	}
	return nil
}

// usageError is a command line that was not understood.
type usageError struct{ error }

func exitCode(err error) int {
	var usage usageError
	if errors.As(err, &usage) {
		return 2
	}
	return 1
}
