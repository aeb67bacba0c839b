// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// podMTU is the size that the second half of a node's life uses.
const podMTU = 1400

// shrink restarts the agent with a smaller size for new pods.
func (n *node) shrink() {
	n.t.Helper()
	ok(n.t, n.agent.Stop())
	text, err := os.ReadFile(n.config)
	ok(n.t, err)
	ok(n.t, os.WriteFile(n.config, fmt.Appendf(text, "mtu: %d\n", podMTU), 0o644))
	n.startAgent("weft-agent")
}

// claim has a pod tell its peers to send it segments larger than it can take.
func claim(t *testing.T, p *sandbox.Pod, segment int) {
	t.Helper()
	ok(t, p.NS.Do(func() error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteList(nil, family)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Gw == nil {
					continue
				}
				r.AdvMSS = segment
				if err := netlink.RouteReplace(&r); err != nil {
					return fmt.Errorf("replacing %v: %w", r, err)
				}
			}
		}
		return nil
	}))
}

// unfragmented is a UDP socket that never cuts its datagrams.
func unfragmented(from *sandbox.NS, to netip.Addr, port uint16) (net.Conn, error) {
	conn, err := from.Dial("udp", hostPort(to, port), soon)
	if err != nil {
		return nil, err
	}
	rc, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	e := rc.Control(func(fd uintptr) {
		if to.Is4() {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
	})
	return conn, errors.Join(err, e)
}

func TestSmallerPathIsFound(t *testing.T) {
	n := startNode(t)
	big := n.pod("big")
	n.shrink()
	small, unknown := n.pod("small"), n.pod("unknown")
	claim(t, small, 1460)
	ends := map[string]struct {
		ns    *sandbox.NS
		addrs []netip.Addr
	}{"pod": {big.NS, addrs(big)}, "world": {n.world, worldAddrs()}}
	onBoth(t, func(t *testing.T, family int) {
		for name, end := range ends {
			if err := carry(end.ns, small.NS, addrs(small)[family], 8<<20); err != nil {
				t.Errorf("TCP from %s with segments too large: %v", name, err)
			}
			if err := carry(small.NS, end.ns, end.addrs[family], 8<<20); err != nil {
				t.Errorf("TCP to %s: %v", name, err)
			}
		}
	})
	// Nobody has learned the path to this one yet.
	for name, end := range ends {
		for family := range 2 {
			if err := learnsSize(n, end.ns, addrs(unknown)[family]); err != nil {
				t.Errorf("%s to %s: %v", name, addrs(unknown)[family], err)
			}
		}
	}
}

// learnsSize sends datagrams that do not fit until the sender has been told so.
func learnsSize(n *node, from *sandbox.NS, to netip.Addr) error {
	conn, err := unfragmented(from, to, 9)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	sent := 0
	err = sandbox.Eventually(n.ctx, soon, "message too long", func() error {
		_, err := conn.Write(make([]byte, podMTU))
		if errors.Is(err, unix.EMSGSIZE) {
			return nil
		}
		if err == nil {
			sent++
		}
		return fmt.Errorf("%d were sent, and then %w", sent, err)
	})
	if err == nil && sent == 0 {
		return errors.New("the first one already was refused: the path was known")
	}
	return err
}

const large = 8 << 10 // a datagram of six fragments

// askLarge asks with a question of several fragments; the answer has some, too.
func askLarge(from *sandbox.NS, to netip.Addr, port uint16, serverName string) error {
	question := strings.Repeat("f", large)
	got, err := sandbox.Ask(from, "udp", hostPort(to, port), question, answer)
	if err != nil {
		return err
	}
	if got != serverName+" "+question {
		return fmt.Errorf("answer has %d bytes, want %d", len(got), len(serverName)+1+large)
	}
	return nil
}

func TestFragmentsFollowTheirFirst(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server", "app=server")
	serve(t, server, 8080)
	serve(t, server, 9090)
	echo, err := sandbox.StartEcho(n.world, "world", 8080)
	ok(t, err)
	t.Cleanup(echo.Close)
	all := func(t *testing.T, family int) {
		t.Helper()
		to := addrs(server)[family]
		for name, ns := range map[string]*sandbox.NS{"pod": client.NS, "host": sandbox.Host(), "world": n.world} {
			if err := askLarge(ns, to, 8080, "server"); err != nil {
				t.Errorf("large datagrams between %s and the server: %v", name, err)
			}
		}
		if err := askLarge(client.NS, worldAddrs()[family], 8080, "world"); err != nil {
			t.Errorf("large datagrams to the world: %v", err)
		}
	}
	onBoth(t, all)
	n.write("policy.yaml", `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - toPorts: [{ports: [{port: "8080", protocol: UDP}]}]
`)
	onBoth(t, all)
	tap := openRaw(t, server.NS, "eth0")
	onBoth(t, func(t *testing.T, family int) {
		to := addrs(server)[family]
		before := n.drops(agentv1.DropReason_DROP_REASON_POLICY_DEFAULT) + n.drops(agentv1.DropReason_DROP_REASON_FRAGMENT)
		refused, err := client.NS.Dial("udp", hostPort(to, 9090), soon)
		ok(t, err)
		_, err = refused.Write(bytes.Repeat([]byte("refused "), large/8))
		ok(t, errors.Join(err, refused.Close()))
		// The fragments of one datagram: the first is refused by the policy, and the
		// later ones because of it.
		ok(t, sandbox.Eventually(n.ctx, soon, "drops of six fragments", func() error {
			now := n.drops(agentv1.DropReason_DROP_REASON_POLICY_DEFAULT) + n.drops(agentv1.DropReason_DROP_REASON_FRAGMENT)
			if now < before+6 {
				return fmt.Errorf("%d", now-before)
			}
			return nil
		}))
		last, err := client.NS.Dial("udp", hostPort(to, 8080), soon)
		ok(t, err)
		_, err = last.Write([]byte("the last one"))
		ok(t, errors.Join(err, last.Close()))
		_, err = tap.Receive(soon, func(f []byte) bool {
			if bytes.Contains(f, []byte("refused ")) {
				t.Errorf("a fragment of a refused datagram came: %d bytes", len(f))
			}
			return bytes.Contains(f, []byte("the last one"))
		})
		ok(t, err)
	})
}
