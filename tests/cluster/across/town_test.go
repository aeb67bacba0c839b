// SPDX-License-Identifier: Apache-2.0

package across

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/cluster"
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
	ips  map[string][]string // of services
}

const (
	home, abroad = "across-home", "across-abroad"
)

func newTown(t *testing.T, m mode) *town {
	t.Helper()
	w := installed(t, m)
	w.namespace(home, "team: home")
	w.namespace(abroad, "team: abroad")
	c := &town{world: w, pods: make(map[string]*pod), ips: make(map[string][]string)}
	var all []*pod
	add := func(namespace, app string, node int, host bool) {
		p := &pod{namespace: namespace, name: fmt.Sprintf("%s%d", app, node), node: node, host: host,
			labels: fmt.Sprintf("app: %s, who: %s%d", app, app, node)}
		if !host {
			p.ports = "{name: named, containerPort: 7008}"
		}
		c.pods[p.name] = p
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
	w.apply(services()) // before the pods: DNS remembers what it did not find
	for _, name := range []string{"near", "far", "hosts"} {
		c.ips[name] = strings.Fields(w.kubectl("get service "+name+" -n "+home+" -o", "jsonpath={.spec.clusterIPs[*]}"))
	}
	w.make(all...)
	c.neighbours()
	return c
}

// neighbours makes the router know the way to pods, and somebody answer there and outside.
func (c *town) neighbours() {
	c.t.Helper()
	for _, node := range c.Nodes() {
		ranges := strings.Fields(c.kubectl("get weftnode "+node.Name()+" -o", "jsonpath={.spec.podCIDRs[*]}"))
		for _, r := range ranges {
			via := node.IPv4()
			if strings.Contains(r, ":") {
				via = node.IPv6()
			}
			if out, err := c.Router(c.t.Context(), fmt.Sprintf("%s route %s %s", c.probe(), r, via)); err != nil {
				c.t.Fatalf("%v: %s", err, out)
			}
			c.finally(func(ctx context.Context) error { _, err := c.Router(ctx, c.probe()+" unroute "+r); return err })
		}
	}
	for name, shell := range c.others() {
		c.serve(name, shell)
	}
}

// others are machines that are no nodes, by their name.
func (c *town) others() map[string]func(context.Context, string) (string, error) {
	return map[string]func(context.Context, string) (string, error){"outside": c.Outside, "apiserver": c.Router}
}

// serve starts probe on a machine until the test ends.
func (c *town) serve(name string, shell func(context.Context, string) (string, error)) {
	c.t.Helper()
	out, err := shell(c.t.Context(), fmt.Sprintf("setsid %s serve %s >/dev/null 2>&1 & echo $!", c.probe(), name))
	if err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	c.finally(func(ctx context.Context) error {
		_, err := shell(ctx, "kill "+strings.TrimSpace(out))
		return err
	})
	c.eventually(settle, name+" answers", func() error {
		out, err := shell(c.t.Context(), fmt.Sprintf("%s ask http://127.0.0.1:%d/seen {}", c.probe(), tellPort))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
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
func (c *town) part(name string, test func(*town)) {
	c.t.Run(name, func(t *testing.T) {
		test(&town{world: c.in(t), pods: c.pods, ips: c.ips})
	})
}
