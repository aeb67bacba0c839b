// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// outputFlag adds --output; the first form is the default.
func outputFlag(c *cobra.Command, value *string, forms ...string) {
	c.Flags().StringVarP(value, "output", "o", forms[0], "form of the output: "+strings.Join(forms, ", "))
	complete(c, "output", forms...)
}

// complete offers fixed values for a flag.
func complete(c *cobra.Command, flag string, values ...string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag does not exist
	}
}

func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return usagef("--%s %q: want one of %s", flag, value, strings.Join(allowed, ", "))
}

// listing is a command that asks once and shows the answer.
type listing[M proto.Message] struct {
	short string
	ask   func(context.Context, *client.Client) (M, error)
	table func(io.Writer, M) error
}

func (l listing[M]) command(a *app) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: l.short, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := oneOf("output", output, "table", "json"); err != nil {
				return err
			}
			return a.call(c.Context(), func(ctx context.Context, conn *client.Client) error {
				m, err := l.ask(ctx, conn)
				if err != nil {
					return err
				}
				if output == "json" {
					return render.JSON(a.env.Stdout, m)
				}
				return l.table(a.env.Stdout, m)
			})
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
}

func (a *app) endpointCommand() *cobra.Command {
	return group("endpoint", []string{"endpoints", "ep"}, "Show the pods attached on this node", listing[*agentv1.ListEndpointsResponse]{
		short: "List the pods attached on this node, with identity, addresses and the state of their policy",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListEndpointsResponse, error) {
			return c.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		},
		table: func(w io.Writer, m *agentv1.ListEndpointsResponse) error {
			return render.Endpoints(w, m.GetEndpoints())
		},
	}.command(a))
}

func (a *app) identityCommand() *cobra.Command {
	return group("identity", []string{"identities", "id"}, "Show the identities that policies speak of", listing[*agentv1.ListIdentitiesResponse]{
		short: "List identities with the labels that they stand for",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListIdentitiesResponse, error) {
			return c.ListIdentities(ctx, &agentv1.ListIdentitiesRequest{})
		},
		table: func(w io.Writer, m *agentv1.ListIdentitiesResponse) error {
			return render.Identities(w, m.GetIdentities())
		},
	}.command(a))
}

func (a *app) policyCommand() *cobra.Command {
	var entries bool
	var names render.Names
	list := listing[*agentv1.ListPoliciesResponse]{
		short: "List policies: where they come from, whom they select, why one is not applied",
		ask: func(ctx context.Context, c *client.Client) (m *agentv1.ListPoliciesResponse, err error) {
			if names, err = askNames(ctx, c); err != nil {
				return nil, err
			}
			return c.ListPolicies(ctx, &agentv1.ListPoliciesRequest{Entries: entries})
		},
		table: func(w io.Writer, m *agentv1.ListPoliciesResponse) error { return render.Policies(w, m, names) },
	}.command(a)
	list.Flags().BoolVar(&entries, "entries", false, "also list the compiled entries of every endpoint")
	return group("policy", []string{"policies"}, "Show policies and what they were compiled to", list)
}

// askNames asks who the numbers are that policies are answered with.
func askNames(ctx context.Context, c *client.Client) (render.Names, error) {
	endpoints, err := c.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
	if err != nil {
		return render.Names{}, err
	}
	identities, err := c.ListIdentities(ctx, &agentv1.ListIdentitiesRequest{})
	if err != nil {
		return render.Names{}, err
	}
	return render.NewNames(endpoints.GetEndpoints(), identities.GetIdentities()), nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this command and, if it can be reached, of the agent",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintln(a.env.Stdout, "weft      ", a.env.Version); err != nil {
				return err
			}
			_, err := fmt.Fprintln(a.env.Stdout, "weft-agent", a.agentVersion(c.Context()))
			return err
		},
	}
}

// agentVersion waits a second at most: the agent is not what was asked for.
func (a *app) agentVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, min(a.timeout, time.Second))
	defer cancel()
	version := "not reached"
	err := a.stream(ctx, func(ctx context.Context, c *client.Client) error {
		s, err := c.GetStatus(ctx, &agentv1.GetStatusRequest{})
		version = s.GetVersion()
		return err
	})
	if err != nil {
		return "cannot be reached at " + a.socket
	}
	return version
}
