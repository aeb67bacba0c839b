// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"io"
	"slices"
	"strings"

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

// listing is a command that asks every agent once and shows the answers together.
type listing[M proto.Message] struct {
	short string
	ask   func(context.Context, *client.Client) (M, error)
	// table shows the answers: of one agent without its node, else with nodes.
	table func(w io.Writer, answers []answer[M], nodes bool) error
}

func (l listing[M]) command(a *app) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: l.short, Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := oneOf("output", output, "table", "json"); err != nil {
				return err
			}
			f, err := a.fleet(c.Context())
			if err != nil {
				return err
			}
			answers := each(c.Context(), a, f, l.ask)
			good, missed := answered(answers)
			switch {
			case len(good) == 0:
				return missed
			case output == "table":
				err = l.table(a.env.Stdout, good, f.cluster != nil)
			case f.cluster != nil:
				err = render.NodesJSON(a.env.Stdout, nil, ofNodes(answers))
			default:
				err = render.JSON(a.env.Stdout, good[0].message)
			}
			if err != nil {
				return err
			}
			return missed
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
}

func ofNodes[M proto.Message](answers []answer[M]) []render.OfNode {
	var out []render.OfNode
	for _, one := range answers {
		of := render.OfNode{Node: one.agent.Node, Err: one.err}
		if one.err == nil {
			of.Message = one.message
		}
		out = append(out, of)
	}
	return out
}

func (a *app) endpointCommand() *cobra.Command {
	return group("endpoint", []string{"endpoints", "ep"}, "Show the pods that are attached", listing[*agentv1.ListEndpointsResponse]{
		short: "List the pods that are attached, with identity, addresses and the state of their policy",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListEndpointsResponse, error) {
			return c.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		},
		table: func(w io.Writer, answers []answer[*agentv1.ListEndpointsResponse], named bool) error {
			var all []*agentv1.Endpoint
			var nodes []string
			for _, one := range answers {
				for _, e := range one.message.GetEndpoints() {
					all = append(all, e)
					if named {
						nodes = append(nodes, one.agent.Node)
					}
				}
			}
			return render.Endpoints(w, all, nodes)
		},
	}.command(a))
}

func (a *app) identityCommand() *cobra.Command {
	return group("identity", []string{"identities", "id"}, "Show the identities that policies speak of", listing[*agentv1.ListIdentitiesResponse]{
		short: "List identities with the labels that they stand for",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListIdentitiesResponse, error) {
			return c.ListIdentities(ctx, &agentv1.ListIdentitiesRequest{})
		},
		table: func(w io.Writer, answers []answer[*agentv1.ListIdentitiesResponse], named bool) error {
			all, nodes := merge(answers, (*agentv1.ListIdentitiesResponse).GetIdentities, merging[*agentv1.Identity]{
				own:  func(i *agentv1.Identity) { i.Endpoints = 0 },
				add:  func(sum, one *agentv1.Identity) { sum.Endpoints += one.GetEndpoints() },
				less: func(x, y *agentv1.Identity) int { return int(x.GetId()) - int(y.GetId()) },
			})
			return render.Identities(w, all, nodeCells(nodes, named))
		},
	}.command(a))
}

// policyAnswer is an agent's policies, and who the numbers in them are.
type policyAnswer struct {
	*agentv1.ListPoliciesResponse
	names render.Names
}

func (a *app) policyCommand() *cobra.Command {
	var entries bool
	list := listing[policyAnswer]{
		short: "List policies: where they come from, whom they select, why one is not applied",
		ask: func(ctx context.Context, c *client.Client) (m policyAnswer, err error) {
			if m.names, err = askNames(ctx, c); err != nil {
				return m, err
			}
			m.ListPoliciesResponse, err = c.ListPolicies(ctx, &agentv1.ListPoliciesRequest{Entries: entries})
			return m, err
		},
		table: policyTable,
	}.command(a)
	list.Flags().BoolVar(&entries, "entries", false, "also list the compiled entries of every endpoint")
	return group("policy", []string{"policies"}, "Show policies and what they were compiled to", list)
}

func policyTable(w io.Writer, answers []answer[policyAnswer], named bool) error {
	pods := make(map[string][]string) // of a policy, over all nodes
	name := func(p *agentv1.Policy) string { return p.GetNamespace() + "/" + p.GetName() + " " + p.GetKind() }
	for _, one := range answers {
		for _, p := range one.message.GetPolicies() {
			pods[name(p)] = append(pods[name(p)], one.message.names.Pods(p.GetEndpoints())...)
		}
	}
	all, nodes := merge(answers, func(m policyAnswer) []*agentv1.Policy { return m.GetPolicies() }, merging[*agentv1.Policy]{
		own:  func(p *agentv1.Policy) { p.Endpoints, p.Revision = nil, 0 },
		add:  func(*agentv1.Policy, *agentv1.Policy) {},
		less: func(x, y *agentv1.Policy) int { return strings.Compare(name(x), name(y)) },
	})
	var selected [][]string
	for _, p := range all {
		selected = append(selected, pods[name(p)])
	}
	if err := render.Policies(w, all, selected, nodeCells(nodes, named)); err != nil {
		return err
	}
	for _, one := range answers {
		if err := one.message.names.Entries(w, one.message.GetEndpoints(), one.agent.Node); err != nil {
			return err
		}
	}
	return nil
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
