// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// Pods of two nodes meet over both kinds of underlay, with and without an answer by
// the stack, and everything between the nodes is in the tunnel.
func TestPodsOfTwoNodesMeet(t *testing.T) {
	for outer, name := range []string{"over IPv4", "over IPv6"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, outer, 2)
			client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
			server.serve(8080)
			onBoth(t, func(t *testing.T, family int) {
				for _, network := range []string{"tcp", "udp"} {
					got, err := sandbox.Ask(client.ns, network, server.at(family, 8080), "hello", soon)
					if err != nil || got != "pod hello" {
						t.Errorf("%s: %q, %v", network, got, err)
					}
				}
				ok(t, sandbox.Ping(client.ns, server.addrs[family].String(), soon))
				ok(t, sandbox.Ping(server.ns, client.addrs[family].String(), soon))
			})
			for _, n := range c.nodes {
				if drops := n.drops(); len(drops) > 0 {
					t.Errorf("node %d dropped %v", n.n, drops)
				}
			}
		})
	}
}

// The identity in the tunnel decides, not the address: the server's node knows
// another identity for that, or none.
func TestPolicyIsAskedAboutTheIdentityInTheTunnel(t *testing.T) {
	c := newCluster(t, 0, 2)
	friend, stranger, server := c.nodes[0].pod(300), c.nodes[0].pod(400), c.nodes[1].pod(301)
	server.serve(8080)
	server.isolate(from(300, model.ActionAllow, 7))
	ok(t, c.nodes[1].dp.ApplyIdentities([]model.IdentityID{300, 400}, nil))
	ok(t, c.nodes[1].knows(stranger, 300, 1, 0))
	onBoth(t, func(t *testing.T, family int) {
		if _, err := sandbox.Ask(friend.ns, "tcp", server.at(family, 8080), "hello", soon); err != nil {
			t.Errorf("a friend by its identity: %v", err)
		}
		before := c.nodes[1].counted("POLICY_DEFAULT")
		if _, err := sandbox.Ask(stranger.ns, "tcp", server.at(family, 8080), "hello", never); err == nil {
			t.Error("a stranger got in by its address")
		}
		if c.nodes[1].counted("POLICY_DEFAULT") == before {
			t.Error("the drop was not counted")
		}
	})
}

func TestConnectionIsDecidedAgainWhenItsIdentityChanges(t *testing.T) {
	c := newCluster(t, 0, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	server.serve(8080)
	server.isolate(from(300, model.ActionAllow, 7))
	ok(t, c.nodes[1].dp.ApplyIdentities([]model.IdentityID{300, 400}, nil))
	onBoth(t, func(t *testing.T, family int) {
		conn, err := client.ns.Dial("tcp", server.at(family, 8080), soon)
		ok(t, err)
		defer conn.Close()
		for range 3 {
			_, err = sandbox.AskOn(conn, "hello", soon)
			ok(t, err)
		}
		client.row.Identity = 400
		ok(t, c.nodes[0].dp.ApplyEndpoint(client.row))
		if _, err := sandbox.AskOn(conn, "hello", never); err == nil {
			t.Error("an open connection went on under another identity")
		}
		client.row.Identity = 300
		ok(t, c.nodes[0].dp.ApplyEndpoint(client.row))
		ok(t, sandbox.Eventually(t.Context(), soon, "a new connection", func() error {
			_, err := sandbox.Ask(client.ns, "tcp", server.at(family, 8080), "hello", soon)
			return err
		}))
	})
}

// A policy that denies somebody by its labels denies unknown ones as well: the
// compiler's rows say so, and an identity that nobody has told of is unknown.
func TestUnknownIdentityIsUnknownUntilItIsKnown(t *testing.T) {
	c := newCluster(t, 0, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	server.serve(8080)
	server.isolate(from(model.IdentityNone, model.ActionAllow, 1), from(500, model.ActionDeny, 2),
		from(model.IdentityUnknown, model.ActionDeny, 2))
	ok(t, c.nodes[1].knows(client, 300, 1, 0)) // its address is known: that must not count
	onBoth(t, func(t *testing.T, family int) {
		before := c.nodes[1].counted("POLICY_DENY")
		if _, err := sandbox.Ask(client.ns, "udp", server.at(family, 8080), "hello", never); err == nil {
			t.Error("an unknown identity slipped past a deny")
		}
		if c.nodes[1].counted("POLICY_DENY") == before {
			t.Error("the drop was not counted")
		}
		ok(t, c.nodes[1].dp.ApplyIdentities([]model.IdentityID{300}, nil))
		if _, err := sandbox.Ask(client.ns, "tcp", server.at(family, 8080), "hello", soon); err != nil {
			t.Errorf("once it is known: %v", err)
		}
		ok(t, c.nodes[1].dp.ApplyIdentities(nil, []model.IdentityID{300}))
	})
}

// A connection that was let in as unknown is decided again once its identity is
// known, without anything else that changes.
func TestConnectionOfAnUnknownIsDecidedAgainOnceKnown(t *testing.T) {
	c := newCluster(t, 0, 2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	server.serve(8080)
	server.isolate(from(model.IdentityUnknown, model.ActionAllow, 1))
	onBoth(t, func(t *testing.T, family int) {
		ok(t, c.nodes[1].dp.ApplyIdentities(nil, []model.IdentityID{300}))
		conn, err := client.ns.Dial("tcp", server.at(family, 8080), soon)
		ok(t, err)
		defer conn.Close()
		_, err = sandbox.AskOn(conn, "hello", soon)
		ok(t, err)
		ok(t, c.nodes[1].dp.ApplyIdentities([]model.IdentityID{300}, nil))
		if _, err := sandbox.AskOn(conn, "hello", never); err == nil {
			t.Error("it went on as unknown")
		}
	})
}

// Hosts and pods of other nodes reach each other, each by the name that policy has
// for them.
func TestHostsAndPodsOfOtherNodes(t *testing.T) {
	c := newCluster(t, 0, 2)
	a, b := c.nodes[0], c.nodes[1]
	pod := b.pod(301)
	pod.serve(8080)
	echo, err := sandbox.StartEcho(a.ns, "host", 9090)
	ok(t, err)
	t.Cleanup(echo.Close)
	pod.isolate(from(model.IdentityRemoteNode, model.ActionAllow, 3))
	onBoth(t, func(t *testing.T, family int) {
		for _, network := range []string{"tcp", "udp"} {
			if got, err := sandbox.Ask(a.ns, network, pod.at(family, 8080), "hello", soon); err != nil || got != "pod hello" {
				t.Errorf("host to pod by %s: %q, %v", network, got, err)
			}
			to := hostPort(a.addrs[family], 9090)
			if got, err := sandbox.Ask(pod.ns, network, to, "hello", soon); err != nil || got != "host hello" {
				t.Errorf("pod to host by %s: %q, %v", network, got, err)
			}
		}
		// In pieces, which the hosts put together.
		large := strings.Repeat("x", 4000)
		for _, ask := range []struct {
			from *sandbox.NS
			to   string
		}{{a.ns, pod.at(family, 8080)}, {pod.ns, hostPort(a.addrs[family], 9090)}} {
			if got, err := sandbox.Ask(ask.from, "udp", ask.to, large, soon); err != nil || !strings.HasSuffix(got, large) {
				t.Errorf("a large message to %s: %d bytes, %v", ask.to, len(got), err)
			}
		}
	})
	for _, n := range c.nodes {
		if drops := n.drops(); len(drops) > 0 {
			t.Errorf("node %d dropped %v", n.n, drops)
		}
	}
	pod.isolate(from(model.IdentityWorldIPv4, model.ActionAllow, 3), from(model.IdentityHost, model.ActionAllow, 3))
	if _, err := sandbox.Ask(a.ns, "tcp", pod.at(0, 8080), "hello", never); err == nil {
		t.Error("a host that may not come in did")
	}
}
