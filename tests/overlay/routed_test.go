// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// newRouted is nodes without a tunnel, which route to each other's pods, and whose pods
// pass the hosts' stacks by.
func newRouted(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{T: t, routed: true}
	c.build(nodes)
	return c
}

// routes leads to the pods of the other nodes by their addresses.
func (n *node) routes(nodes []*node) {
	n.Helper()
	within(n.T, n.ns, func() error {
		var ips []model.IPRow
		for _, to := range nodes {
			for family, addr := range to.addrs {
				identity := model.IdentityHost
				if to != n {
					identity = model.IdentityRemoteNode
					dst, err := netlink.ParseIPNet(to.ranges[family].String())
					if err != nil {
						return err
					}
					if err := netlink.RouteAdd(&netlink.Route{LinkIndex: int(n.uplink), Dst: dst, Gw: addr.AsSlice()}); err != nil {
						return err
					}
				}
				ips = append(ips, model.IPRow{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Identity: identity},
					model.IPRow{Prefix: to.ranges[family], Identity: model.IdentityUnknown})
			}
		}
		return n.dp.ApplyIPs(ips, nil)
	})
}

// tell has all other nodes know the pod.
func (c *cluster) tell(pods ...*pod) {
	c.Helper()
	for _, p := range pods {
		for _, n := range c.nodes {
			if n != p.node {
				ok(c, n.knows(p, p.row.Identity, 0, 0))
			}
		}
	}
}

// forwarded is how many packets of a family the node's stack has sent on.
func (n *node) forwarded(family int) (count int) {
	n.Helper()
	within(n.T, n.ns, func() error {
		if family == 1 {
			text, err := os.ReadFile("/proc/thread-self/net/snmp6")
			if err != nil {
				return err
			}
			_, after, _ := strings.Cut(string(text), "Ip6OutForwDatagrams")
			count, err = strconv.Atoi(strings.Fields(after)[0])
			return err
		}
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		lines := strings.SplitN(string(text), "\n", 3)
		for i, name := range strings.Fields(lines[0]) {
			if name == "ForwDatagrams" {
				count, err = strconv.Atoi(strings.Fields(lines[1])[i])
				return err
			}
		}
		return fmt.Errorf("the kernel does not tell how many packets it has forwarded:\n%s", text)
	})
	return count
}

// Pods of two nodes meet past the hosts' stacks, which see no more than what has to find
// the neighbour, and what is to be cut in pieces.
func TestPodsOfRoutedNodesMeetPastTheStacks(t *testing.T) {
	c := newRouted(t, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	c.tell(client, server)
	server.serve(8080)
	server.isolate(from(300, model.ActionAllow, 7))
	onBoth(t, func(t *testing.T, family int) {
		for _, network := range []string{"tcp", "udp", "tcp"} {
			got, err := sandbox.Ask(client.ns, network, server.at(family, 8080), "hello", soon)
			if err != nil || got != "pod hello" {
				t.Errorf("%s: %q, %v", network, got, err)
			}
		}
		ok(t, sandbox.Ping(client.ns, server.addrs[family].String(), soon))
		conn, err := client.ns.Dial("tcp", server.at(family, 8080), soon)
		ok(t, err)
		defer conn.Close()
		before := [2]int{c.nodes[0].forwarded(family), c.nodes[1].forwarded(family)}
		for range 100 {
			_, err = sandbox.AskOn(conn, "hello", soon)
			ok(t, err)
		}
		for i, n := range c.nodes {
			if seen := n.forwarded(family) - before[i]; seen > 5 {
				t.Errorf("the stack of node %d has forwarded %d packets of 100 questions", n.n, seen)
			}
		}
		if _, err := sandbox.Ask(client.ns, "udp", server.at(family, 8080), strings.Repeat("x", 4000), soon); err != nil {
			t.Errorf("in pieces: %v", err)
		}
		if c.nodes[0].forwarded(family) <= before[0] {
			t.Error("the stack has not seen the pieces")
		}
	})
	for _, n := range c.nodes {
		if drops := n.drops(); len(drops) > 0 {
			t.Errorf("node %d dropped %v", n.n, drops)
		}
	}
}

// A device that carries less than the pods believe is told of by the stack.
func TestPodsAreToldWhatIsTooBigForTheWay(t *testing.T) {
	c := newRouted(t, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	c.tell(client, server)
	server.serve(8080)
	for _, n := range c.nodes { // both, as the answer is as long
		within(t, n.ns, func() error {
			dev, err := netlink.LinkByName("up0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(dev, 1400)
		})
	}
	onBoth(t, func(t *testing.T, family int) {
		question := strings.Repeat("x", 3000)
		got, err := sandbox.Ask(client.ns, "tcp", server.at(family, 8080), question, soon)
		if err != nil || got != "pod "+question {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// Who has a policy against others has it at the uplink, also on an open connection, and
// is told of none whose way back does not lead there.
func TestPolicyIsAskedWhereRoutedPacketsComeIn(t *testing.T) {
	c := newRouted(t, 3)
	friend, stranger, server := c.nodes[0].pod(300), c.nodes[2].pod(400), c.nodes[1].pod(301)
	c.tell(friend, stranger, server)
	server.serve(8080)
	server.isolate(from(300, model.ActionAllow, 7))
	onBoth(t, func(t *testing.T, family int) {
		conn, err := friend.ns.Dial("tcp", server.at(family, 8080), soon)
		ok(t, err)
		defer conn.Close()
		_, err = sandbox.AskOn(conn, "hello", soon)
		ok(t, err)
		before := c.nodes[1].counted("POLICY_DEFAULT")
		for end := time.Now().Add(soon); c.nodes[1].counted("POLICY_DEFAULT") == before && time.Now().Before(end); { // nodes may not know each other yet
			if _, err := sandbox.Ask(stranger.ns, "tcp", server.at(family, 8080), "hello", never); err == nil {
				t.Error("a stranger got in")
			}
		}
		if c.nodes[1].counted("POLICY_DEFAULT") == before {
			t.Error("the drop was not counted")
		}
		server.isolate()
		if _, err := sandbox.AskOn(conn, "hello", never); err == nil {
			t.Error("an open connection went on against the policy")
		}
		server.isolate(from(300, model.ActionAllow, 7))
	})
}
