// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

// town is what the tests of a mode play on.
//
//	node 1: friend1, guest1, stranger1, caller; host1
//	node 2: friend2, guest2, stranger2, server; host2
//	node 3: host3
//
// guests are of another namespace; host1 to host3 are in their host's network. On the
// host outside and at the API server somebody answers like a pod.
type town struct {
	*world
	pods map[string]*pod
	ips  map[string][2]string // of services: IPv4, IPv6
}

const (
	home, abroad = "across-home", "across-abroad"
)

func newTown(t *testing.T, m mode) *town {
	t.Helper()
	w := installed(t, m)
	w.Namespace(home, "team: home")
	w.Namespace(abroad, "team: abroad")
	c := &town{world: w, pods: make(map[string]*pod), ips: make(map[string][2]string)}
	var all []*pod
	add := func(namespace, app string, node int, host bool) {
		p := newPod(namespace, fmt.Sprintf("%s%d", app, node), node, fmt.Sprintf("app: %s, who: %s%d", app, app, node))
		if p.host = host; !host {
			p.ports = "{name: named, containerPort: 7008}"
		}
		c.pods[p.Name] = p
		all = append(all, p)
	}
	for n := 1; n <= 2; n++ {
		add(home, "friend", n, false)
		add(abroad, "guest", n, false)
		add(home, "stranger", n, false)
	}
	// An address of node 2 leads to friend2.
	c.pods["friend2"].ports += fmt.Sprintf(", {name: tcp, containerPort: %d, hostPort: %d}, {name: udp, containerPort: %d, hostPort: %d, protocol: UDP}",
		firstPort, hostPort, firstPort, hostPort)
	add(home, "caller", 1, false)
	add(home, "server", 2, false)
	for n := 1; n <= 3; n++ {
		add(home, "host", n, true)
	}
	w.Apply(services()) // before the pods: DNS remembers what it did not find
	for _, name := range []string{"near", "far", "hosts"} {
		c.ips[name] = w.ServiceIPs(home, name)
	}
	w.make(all...)
	c.neighbours()
	return c
}

// neighbours makes the router know the way to pods, and somebody answer there and outside.
func (c *town) neighbours() {
	c.T.Helper()
	for _, node := range c.Nodes() {
		ranges := strings.Fields(c.Kubectl("get weftnode "+node.Name()+" -o", "jsonpath={.spec.podCIDRs[*]}"))
		for _, r := range ranges {
			via := node.IPv4()
			if strings.Contains(r, ":") {
				via = node.IPv6()
			}
			if err := framework.Said(c.Router(c.T.Context(), fmt.Sprintf("%s route %s %s", c.Program("probe"), r, via))); err != nil {
				c.T.Fatal(err)
			}
			c.Finally(func(ctx context.Context) error {
				return framework.Said(c.Router(ctx, c.Program("probe")+" unroute "+r))
			})
		}
	}
	for name, machine := range map[string]func(context.Context, string) (string, error){"outside": c.Outside, "apiserver": c.Router} {
		c.Serve(settle, machine, c.Program("probe")+" serve "+name, fmt.Sprintf("%s ask http://127.0.0.1:%d/seen {}", c.Program("probe"), tellPort))
	}
}

// outsideIP and apiserverIP are addresses by family.
func outsideIP(six bool) string {
	if six {
		return cluster.OutsideIPv6
	}
	return cluster.OutsideIPv4
}

func nodeIP(n *cluster.Node, six bool) string {
	if six {
		return n.IPv6()
	}
	return n.IPv4()
}

func routerIP(six bool) string {
	if six {
		return cluster.RouterIPv6
	}
	return cluster.RouterIPv4
}

// part runs a test of a town by a name.
func (c *town) part(t *testing.T, name string, test func(*town)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		test(&town{world: &world{c.In(t), c.mode}, pods: c.pods, ips: c.ips})
	})
}
