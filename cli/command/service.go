// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

const listHelp = `CHOICE is how a backend is chosen: random, or for a service with session affinity
maglev, a table that leads each client to the same backend. READY counts the
backends that get what is new, of all that EndpointSlices name. CHOSEN is how often
one was chosen: once a connection, or once a UDP socket.`

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
		table: func(w io.Writer, m *agentv1.ListServicesResponse) error { return render.Services(w, m.GetServices()) },
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
			return a.call(c.Context(), func(ctx context.Context, conn *client.Client) error {
				m, err := conn.ListServices(ctx, &agentv1.ListServicesRequest{Namespace: namespace, Name: name})
				if err != nil {
					return err
				}
				for _, s := range m.GetServices() {
					if output == "json" {
						err = render.JSON(a.env.Stdout, s)
					} else {
						err = render.Service(a.env.Stdout, s)
					}
				}
				return err
			})
		},
	}
	outputFlag(c, &output, "table", "json")
	return c
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
