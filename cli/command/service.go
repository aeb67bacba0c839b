// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

const listHelp = `CHOICE is how a backend is chosen: random, or for a service with session affinity
maglev, a table that leads each client to the same backend. READY counts the
backends that get what is new, of all that EndpointSlices name. CHOSEN is how often
one was chosen: once a connection, or once a UDP socket. Node ports (shown as *:port),
external addresses and those of load balancers are listed, too, and are not served.`

const describeHelp = `Show one service, and of each front end (address, port and protocol) every backend.

A backend that is ready gets what is new; one that is terminating or not ready
keeps its connections. CHOSEN is how often it was chosen: once a connection, or
once a UDP socket. The number is the one by which the maps of the kernel know the
front end.`

func (a *app) serviceCommand() *cobra.Command {
	list := listing[*agentv1.ListServicesResponse]{
		short: "List the front ends of services: how many backends are ready, how often one was chosen, why one is not served",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListServicesResponse, error) {
			return c.ListServices(ctx, &agentv1.ListServicesRequest{})
		},
		table: func(w io.Writer, answers []answer[*agentv1.ListServicesResponse], named bool) error {
			all, nodes := mergeServices(answers)
			return render.Services(w, all, nodeCells(nodes, named))
		},
	}.command(a)
	list.Long = list.Short + ".\n\n" + listHelp
	return group("service", []string{"services", "svc"}, "Show services, their front ends and backends", list, a.describeService())
}

func (a *app) describeService() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "describe NAMESPACE/NAME", Short: "Show one service with every backend: its state and how often it was chosen",
		Long: describeHelp, ValidArgsFunction: a.completeServices,
		RunE: func(c *cobra.Command, args []string) error {
			if err := oneOf("output", output, "table", "json"); err != nil {
				return err
			}
			namespace, name, err := serviceName(args)
			if err != nil {
				return err
			}
			return a.describe(c.Context(), &agentv1.ListServicesRequest{Namespace: namespace, Name: name}, output)
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
}

// describe shows a service once for all nodes that know the same of it.
func (a *app) describe(ctx context.Context, req *agentv1.ListServicesRequest, output string) error {
	f, err := a.fleet(ctx)
	if err != nil {
		return err
	}
	answers := each(ctx, a, f, func(ctx context.Context, c *client.Client) (*agentv1.ListServicesResponse, error) {
		return c.ListServices(ctx, req)
	})
	good, missed := answered(answers)
	if len(good) == 0 {
		return missed
	}
	if output == "json" && f.cluster != nil {
		return errors.Join(render.NodesJSON(a.env.Stdout, nil, ofNodes(answers)), missed)
	}
	all, nodes := mergeServices(good)
	for i, s := range all {
		if output == "json" {
			err = render.JSON(a.env.Stdout, s)
		} else {
			err = a.showService(s, nodes[i], i > 0)
		}
		if err != nil {
			return err
		}
	}
	return missed
}

func (a *app) showService(s *agentv1.Service, node string, another bool) error {
	if another {
		fmt.Fprintln(a.env.Stdout)
	}
	if node != "" {
		fmt.Fprintf(a.env.Stdout, "nodes     %s\n", node)
	}
	return render.Service(a.env.Stdout, s)
}

// mergeServices sums how often backends were chosen; numbers of front ends and
// backends are each node's own, and of none when nodes are shown together.
func mergeServices(answers []answer[*agentv1.ListServicesResponse]) ([]*agentv1.Service, []string) {
	byAddress := func(x, y *agentv1.ServiceBackend) int { return strings.Compare(x.GetAddress(), y.GetAddress()) }
	if len(answers) > 1 {
		for _, one := range answers {
			for _, s := range one.message.GetServices() {
				for _, f := range s.GetFrontends() {
					f.Number = 0
					slices.SortFunc(f.Backends, byAddress)
				}
			}
		}
	}
	backends := func(s *agentv1.Service, do func(frontend, backend int, b *agentv1.ServiceBackend)) {
		for i, f := range s.GetFrontends() {
			for j, b := range f.GetBackends() {
				do(i, j, b)
			}
		}
	}
	return merge(answers, (*agentv1.ListServicesResponse).GetServices, merging[*agentv1.Service]{
		own: func(s *agentv1.Service) {
			backends(s, func(_, _ int, b *agentv1.ServiceBackend) { b.Number, b.Hits = 0, 0 })
		},
		add: func(sum, one *agentv1.Service) {
			backends(one, func(i, j int, b *agentv1.ServiceBackend) { sum.Frontends[i].Backends[j].Hits += b.GetHits() })
		},
		less: func(x, y *agentv1.Service) int {
			return strings.Compare(x.GetNamespace()+"/"+x.GetName(), y.GetNamespace()+"/"+y.GetName())
		},
	})
}

func serviceName(args []string) (namespace, name string, err error) {
	if len(args) != 1 {
		return "", "", usagef("name one service as NAMESPACE/NAME, such as default/web")
	}
	namespace, name, ok := strings.Cut(args[0], "/")
	if !ok || namespace == "" || name == "" {
		return "", "", usagef("%q does not name a service: write NAMESPACE/NAME, such as default/web", args[0])
	}
	return namespace, name, nil
}
