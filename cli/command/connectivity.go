// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/connectivity"
	"github.com/weftmesh/weft/cli/render"
)

// errRed is a connectivity test that found something; what was shown.
var errRed = errors.New("connectivity is not as it should be")

func (a *app) connectivityCommand() *cobra.Command {
	return group("connectivity", []string{"conn"}, "Try whether a cluster's network does what it should",
		a.connectivityTestCommand(), a.connectivityListCommand(), a.connectivityServeCommand(), a.connectivityProbeCommand())
}

// connectivityFlags are the flags of one test.
type connectivityFlags struct {
	tests    []string
	external string
	keep     bool
	output   string
	ready    time.Duration
}

func (a *app) connectivityTestCommand() *cobra.Command {
	var f connectivityFlags
	c := &cobra.Command{
		Use: "test", Short: "Let pods of its own call each other, services, hosts and the API server, with and without policies",
		Long: `Makes pods on two nodes (or the one there is) in the namespaces weft-test and
weft-test-other, lets them call each other in every way that a cluster's network
must serve, with and without policies, and shows a line for each check. Of a check
that failed it shows what was expected, what happened, and what the agents saw of
it. The namespaces are removed at the end, also when it is interrupted.

The pods run the agent's own image. Calls are tried again for up to 8 seconds
until they are as expected, for changes of policy take a moment. It exits with 1
when a check failed.

It needs the rights to make namespaces, pods, services, NetworkPolicies and
WeftNetworkPolicies, and pods/exec in those namespaces and in Weft's.`,
		Example: `  weft connectivity test
  weft connectivity test --external 192.0.2.10:443
  weft connectivity test --test service --test dns --keep
  weft connectivity test --node worker-1,worker-2 -o junit`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.connectivityTest(c.Context(), &f) },
	}
	c.Flags().StringSliceVar(&f.tests, "test", nil, "only these tests; weft connectivity list names them")
	c.Flags().StringVar(&f.external, "external", "", "HOST:PORT outside the cluster that takes connections, to try the way out")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave the namespaces with the pods, to look at them; the next run removes them")
	c.Flags().DurationVar(&f.ready, "ready", time.Minute, "how long the pods may take to be ready")
	outputFlag(c, &f.output, "text", "json", "junit")
	complete(c, "test", testNames()...)
	return c
}

func testNames() []string {
	var names []string
	for _, t := range connectivity.Tests() {
		names = append(names, t.Name)
	}
	return names
}

func (f *connectivityFlags) check() error {
	if err := oneOf("output", f.output, "text", "json", "junit"); err != nil {
		return err
	}
	for _, name := range f.tests {
		if !slices.Contains(testNames(), name) {
			return usagef("--test %q: there is no such test; weft connectivity list names them", name)
		}
	}
	if _, port, err := net.SplitHostPort(f.external); f.external != "" && (err != nil || port == "") {
		return usagef("--external %q: want HOST:PORT, such as 192.0.2.10:443", f.external)
	}
	if f.ready <= 0 {
		return usagef("--ready %v: want a time above zero, such as 1m", f.ready)
	}
	return nil
}

func (a *app) connectivityTest(ctx context.Context, f *connectivityFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	c, err := a.openCluster()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, a.timeout)
	agents, err := c.Agents(within, nil)
	cancel()
	if err != nil {
		return err
	}
	begun := time.Now()
	var results []connectivity.Result
	runErr := connectivity.Run(ctx, connectivity.Config{
		Cluster: c, Agents: agents, Nodes: a.target.nodes, External: f.external, Tests: f.tests, Keep: f.keep, Ready: f.ready,
		Tell: func(what string) { fmt.Fprintln(a.env.Stderr, "weft: "+what) },
		Report: func(r connectivity.Result) {
			results = append(results, r)
			if f.output == "text" {
				fmt.Fprintln(a.env.Stdout, r.Line())
			}
		},
	})
	summary := connectivity.Sum(results, time.Since(begun))
	if err := a.sumUp(f.output, results, summary); err != nil {
		return err
	}
	switch {
	case runErr != nil:
		return runErr
	case summary.Failed > 0:
		return fmt.Errorf("%w: %d of %d checks failed", errRed, summary.Failed, summary.Failed+summary.OK)
	}
	return nil
}

func (a *app) sumUp(output string, results []connectivity.Result, s connectivity.Summary) error {
	switch output {
	case "json":
		return connectivity.WriteJSON(a.env.Stdout, results, s)
	case "junit":
		return connectivity.WriteJUnit(a.env.Stdout, results, s)
	}
	_, err := fmt.Fprintf(a.env.Stdout, "\n%d checks ok, %d failed, %d tests skipped, in %.1f s\n", s.OK, s.Failed, s.Skipped, s.Seconds)
	return err
}

func (a *app) connectivityListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the tests and what each is about", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			var rows [][]string
			for _, t := range connectivity.Tests() {
				rows = append(rows, []string{t.Name, t.About})
			}
			return render.Table(a.env.Stdout, []string{"TEST", "ABOUT"}, rows)
		},
	}
}

// connectivityServeCommand is what the pods of the test run.
func (a *app) connectivityServeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "serve", Short: "Answer the calls of a connectivity test", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			name := a.env.Getenv("POD_NAMESPACE") + "/" + a.env.Getenv("POD_NAME")
			return connectivity.Serve(c.Context(), name)
		},
	}
}

// connectivityProbeCommand is run in pods of the test, and of agents.
func (a *app) connectivityProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "probe", Short: "Make the calls of a connectivity test", Hidden: true, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return connectivity.RunProbes(c.Context(), a.env.Stdin, a.env.Stdout)
		},
	}
}
