// SPDX-License-Identifier: Apache-2.0

// Command weft-agent is the node agent: it keeps the kernel's programs and maps
// as pods and policies ask, and tells what flows. It may be stopped, killed and
// replaced at any time; traffic goes on.
package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/pkg/daemon"
)

func main() {
	root, load := daemon.Command("weft-agent", "The node agent of Weft",
		`weft-agent is the node agent of Weft. Without a command it runs in the foreground
until TERM or INT; HUP, or another content of its ConfigMap, makes it read its
configuration again. It may be stopped,
killed and replaced at any time: traffic and policy go on without it.
The command weft shows what it knows and does.`, run)
	root.AddCommand(cleanupCommand(load))
	daemon.Main(root)
}

func cleanupCommand(load daemon.Load) *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove every trace of Weft from this node; pods that are attached lose their network",
		Args:  daemon.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			if err := cleanup(cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "Weft is removed from this node; its configuration and manifests stay")
			return err
		},
	}
}
