// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

func (a *app) statusCommand() *cobra.Command {
	var wait bool
	var output string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the health of agents and operator, policy revisions, counts and drops by reason",
		Long: `Shows the health of every part of the agent, which revision of the intent is in
the kernel, what is known, and what was dropped and why. Of a cluster it shows a
line for each node, with what is wrong there (also pods that began before Weft, and
so have no network of it), and the operator. It exits with 1 when an agent is
failing; a degraded agent still does its work and exits with 0.

With --wait it first waits until the agent can be reached and all intent that it
knows is in the kernel, for as long as --timeout. Where rules ask for more than ports
it also waits until the proxy has taken them; for one that is not there it waits 5
seconds, and the line proxy says so. Of a cluster it waits until the
DaemonSet and the operator are rolled out, an operator leads, every WeftNode is
Ready, and every agent has all intent in the kernel, for 5 minutes if --timeout is
not given; standard error tells what it waits for. When it gives up it shows how
things stand and exits with 4, or with 3 if no agent was ever reached.`,
		Example: `  weft status
  weft status --wait --timeout 3m
  weft status --node worker-1 -o json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			if wait {
				a.orHere()
			}
			if a.target.remote {
				return a.clusterStatus(c.Context(), a.patience(c, wait), output)
			}
			s, err := a.status(c.Context(), client.Local(a.target.socket), wait)
			if wait && a.exitCode(c.Context(), err) == ExitTimeout {
				return errors.Join(err, errNotRealized, a.showWaiting(c.Context(), output))
			}
			if err != nil {
				return err
			}
			return a.showStatus(s, output)
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until all intent is in the kernel, of a cluster on every node")
	outputFlag(c, &output, "text", "json")
	return c
}

// patience is how long to wait for a cluster; 0: not at all.
func (a *app) patience(c *cobra.Command, wait bool) time.Duration {
	switch {
	case !wait:
		return 0
	case c.Flags().Changed("timeout"):
		return a.timeout
	}
	return installIn
}

func (a *app) status(ctx context.Context, agent *client.Agent, wait bool) (s *agentv1.GetStatusResponse, err error) {
	ask := func(ctx context.Context, c *client.Client) (err error) {
		s, err = c.GetStatus(ctx, &agentv1.GetStatusRequest{WaitRealized: wait})
		return err
	}
	if !wait {
		return s, a.call(ctx, agent, ask)
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	var missed *client.UnreachableError // why it is not reached, not that time ran out
	for {
		err := stream(ctx, agent, ask)
		var unreachable *client.UnreachableError
		switch {
		case err == nil || !errors.As(err, &unreachable):
			return s, err
		case missed == nil || a.exitCode(context.Background(), err) != ExitTimeout:
			missed = unreachable
		}
		select {
		case <-ctx.Done():
			return nil, missed
		case <-retry.C:
		}
	}
}

// showWaiting shows how things stand when a wait was given up: what is not in the
// kernel, and why. It has a moment of its own; no answer adds nothing.
func (a *app) showWaiting(ctx context.Context, output string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := a.status(ctx, client.Local(a.target.socket), false)
	if err != nil {
		return nil
	}
	return a.showStatus(s, output)
}

func (a *app) showStatus(s *agentv1.GetStatusResponse, output string) error {
	show := func() error { return render.Status(a.env.Stdout, s, a.env.Now()) }
	if output == "json" {
		show = func() error { return render.JSON(a.env.Stdout, s) }
	}
	if err := show(); err != nil {
		return err
	}
	if s.GetHealth() == agentv1.Health_HEALTH_FAILING {
		return errFailing
	}
	return nil
}
