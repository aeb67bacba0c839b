// SPDX-License-Identifier: Apache-2.0

// Command weft-operator does what a cluster needs once: it numbers the labels of
// pods, divides pod ranges among nodes, keeps pods away from nodes that are not
// ready, and says which policies are valid. Of several operators one works; nodes
// go on without any.
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
	"github.com/weftmesh/weft/operator/uninstall"
	"github.com/weftmesh/weft/pkg/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "weft-operator:", err)
		stop()
		os.Exit(exitCode(err))
	}
}

// usageError is a command line that was not understood.
type usageError struct{ error }

// exitCode is 2 for wrong usage, and 1 for all else.
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
		Use:   "weft-operator",
		Short: "The operator of Weft on Kubernetes",
		Long: `weft-operator allocates identities and pod ranges, and keeps pods away from nodes
whose agent is not ready. Several may run: the one that holds the Lease
weft-operator works, the others wait for it. TERM or INT ends it and releases the
Lease; HUP makes it read logLevel again.`,
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
	root.AddCommand(uninstall.Command(), &cobra.Command{
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
