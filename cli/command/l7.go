// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftmesh/weft/cli/client"
	"github.com/weftmesh/weft/cli/render"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

const rulesetsHelp = `A ruleset is what the rules about requests of one or more policies ask of the
connections that all of them allow. It has a number on its node, by which the kernel
and the proxy know it. One that is retired is named by no policy any more; old
connections may have it, and it says what would be asked of them if they were new:
the same as another one, nothing (open), or what it said. One that is two others
(9 then 7) is a pair: what the rules of a client and those of a server on this node
ask of the same connections, in one pass. READY tells whether the proxy listens for
it, CONNECTIONS whether any has it; - is not known.`

func (a *app) l7Command() *cobra.Command {
	list := listing[*agentv1.ListRulesetsResponse]{
		short: "List what the proxy of each node enforces, and for which policies",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListRulesetsResponse, error) {
			return c.ListRulesets(ctx, &agentv1.ListRulesetsRequest{})
		},
		table: func(w io.Writer, answers []answer[*agentv1.ListRulesetsResponse], named bool) error {
			var all []*agentv1.Ruleset
			var nodes []string
			for _, one := range answers {
				all = append(all, one.message.GetRulesets()...)
				nodes = appendNode(nodes, one.agent.Node, len(one.message.GetRulesets()), named)
			}
			return render.Rulesets(w, all, nodes)
		},
	}.command(a)
	list.Use, list.Aliases, list.Long = "rulesets", nil, list.Short+".\n\n"+rulesetsHelp
	return group("l7", nil, "Show what is asked of requests, and what the proxy has of it", list, a.proxyConfigCommand())
}

func (a *app) proxyConfigCommand() *cobra.Command {
	c := listing[*agentv1.ListProxyConfigResponse]{
		short: "List the objects that the proxy of each node was given, and whether it has taken them",
		ask: func(ctx context.Context, c *client.Client) (*agentv1.ListProxyConfigResponse, error) {
			return c.ListProxyConfig(ctx, &agentv1.ListProxyConfigRequest{})
		},
		table: func(w io.Writer, answers []answer[*agentv1.ListProxyConfigResponse], named bool) error {
			var all []*agentv1.ProxyObject
			var nodes []string
			for _, one := range answers {
				m := one.message
				node := ""
				if named {
					node = one.agent.Node + ": "
				}
				if _, err := fmt.Fprintf(w, "%sproxies connected: %d; acknowledged: %d of %d\n", node, m.GetProxies(),
					m.GetAcknowledgedRevision(), m.GetWantedRevision()); err != nil {
					return err
				}
				for _, s := range m.GetSessions() {
					if s.GetPod() == "" {
						continue
					}
					if _, err := fmt.Fprintf(w, "%s  pod %s: block %d of ports, since %s, acknowledged %d\n", node, s.GetPod(), s.GetBlock(),
						s.GetStarted().AsTime().Format(time.RFC3339), s.GetAcknowledgedRevision()); err != nil {
						return err
					}
				}
				all = append(all, m.GetObjects()...)
				nodes = appendNode(nodes, one.agent.Node, len(m.GetObjects()), named)
			}
			return render.ProxyConfig(w, all, nodes)
		},
	}.command(a)
	c.Use, c.Aliases = "config", nil
	return c
}

// appendNode notes the node of each of n rows, if nodes are shown.
func appendNode(nodes []string, node string, n int, named bool) []string {
	for range n {
		if named {
			nodes = append(nodes, node)
		}
	}
	return nodes
}
