// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this command and, where they can be reached, of agents",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintln(a.env.Stdout, "weft      ", a.env.Version); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.env.Stdout, "weft-agent", a.agentVersions(c.Context()))
			return err
		},
	}
}

// agentVersions waits a moment only: agents are not what was asked for. A cluster
// is asked for more than a host.
func (a *app) agentVersions(ctx context.Context) string {
	limit := time.Second
	if a.target.remote {
		limit = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, min(a.timeout, limit))
	defer cancel()
	f, err := a.fleet(ctx)
	if err != nil {
		return "not reached: " + plain(err)
	}
	answers := each(ctx, a, f, func(ctx context.Context, c *client.Client) (*agentv1.GetStatusResponse, error) {
		return c.GetStatus(ctx, &agentv1.GetStatusRequest{})
	})
	nodes := make(map[string]int)
	missing := 0
	for _, one := range answers {
		if one.err != nil {
			missing++
			continue
		}
		nodes[one.message.GetVersion()]++
	}
	if f.cluster == nil {
		if missing > 0 {
			return "cannot be reached at " + a.target.socket
		}
		return answers[0].message.GetVersion()
	}
	var parts []string
	for version, n := range nodes {
		parts = append(parts, fmt.Sprintf("%s (nodes: %d)", version, n))
	}
	slices.Sort(parts)
	if missing > 0 {
		parts = append(parts, fmt.Sprintf("not reached (nodes: %d)", missing))
	}
	return strings.Join(parts, ", ")
}
