// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

// portManifest declares a pod that has a port of the node's, of TCP and of UDP.
func portManifest(name string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: demo, labels: {name: %[1]s}}
spec:
  containers:
  - name: c
    ports:
    - {containerPort: 80, hostPort: 8080}
    - {containerPort: 80, hostPort: 8080, protocol: UDP}
    - {containerPort: 80, hostPort: 8081, hostIP: 127.0.0.1}
`, name)
}

// portPod runs such a pod.
func (n *node) portPod(name string) *sandbox.Pod {
	n.t.Helper()
	n.write(name+".yaml", portManifest(name))
	p, err := n.runtime.AddPod(n.ctx, "demo", name)
	ok(n.t, err)
	n.pods = append(n.pods, p)
	return p
}

const onlyWorld = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: ports, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: server}}
  ingress:
  - fromCIDRSet:
    - {cidr: 192.0.2.2/32}
    - {cidr: "2001:db8::2/128"}
`

// seenAt is who a mirror behind a port of the node's says is asking.
func seenAt(t *testing.T, from *sandbox.NS, network string, to netip.Addr, port uint16) netip.AddrPort {
	t.Helper()
	conn, err := from.Dial(network, hostPort(to, port), answer)
	ok(t, err)
	defer conn.Close()
	me, err := whoAmI(conn)
	ok(t, err)
	return me
}

// A port of the node's leads to a pod from outside, also where nothing is
// masqueraded, from pods of the node and from its own processes; the pod sees who
// asks, and its policy decides.
func TestHostPorts(t *testing.T) {
	o := startBehindRouter(t, "ipv4: false")
	leadBy(t)
	o.findsBeyond()
	server, client := o.portPod("server"), o.pod("client")
	o.uplinkIs(uplinkDevice, true)
	startMirror(t, server.NS, 80)
	onBoth(t, func(t *testing.T, family int) {
		node := hostAddrs()[family]
		for _, network := range []string{"tcp", "udp"} {
			for from, want := range map[*sandbox.NS]netip.Addr{
				o.world: worldAddrs()[family], o.beyond: beyondAddrs()[family],
				client.NS: addrs(client)[family], sandbox.Host(): node,
			} {
				if me := seenAt(t, from, network, node, 8080); me.Addr() != want {
					t.Errorf("over %s the pod sees %s as %s", network, from.Name, me)
				}
			}
			loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}[family]
			if me := seenAt(t, sandbox.Host(), network, loopback, 8080); me.Addr() != node {
				t.Errorf("over %s the pod sees a process of the host that calls %s as %s", network, loopback, me)
			}
			blocked(t, client.NS, network, loopback, 8080)
		}
	})
	seenAt(t, sandbox.Host(), "tcp", netip.MustParseAddr("127.0.0.1"), 8081)
	blocked(t, o.world, "tcp", hostAddrs()[0], 8081)

	o.write("policy.yaml", onlyWorld)
	onBoth(t, func(t *testing.T, family int) {
		for _, network := range []string{"tcp", "udp"} {
			if me := seenAt(t, o.world, network, hostAddrs()[family], 8080); me.Addr() != worldAddrs()[family] {
				t.Errorf("over %s the pod sees the world as %s", network, me)
			}
			blocked(t, o.beyond, network, hostAddrs()[family], 8080)
			blocked(t, client.NS, network, hostAddrs()[family], 8080)
		}
	})
	nothingInNetfilter(t)
}

// Large transfers over a path that is smaller beyond the node, datagrams in pieces,
// and errors of the pod.
func TestHostPortsCarryAllKinds(t *testing.T) {
	o := startOut(t)
	server := o.portPod("server")
	serve(t, server, 80)
	onBoth(t, func(t *testing.T, family int) {
		node := hostAddrs()[family]
		echoes(t, o.beyond, hostPort(node, 8080))
		ok(t, sandbox.Eventually(o.ctx, soon, "large datagrams", func() error {
			return askLarge(o.beyond, node, 8080, server.Name)
		}))
	})
	ok(t, o.componentSays("host ports", "3 ports of this node lead to pods"))
}

// Connections outlive the agent; when the pod is replaced they end, and the next one
// has the port.
func TestHostPortsOutliveTheAgentAndNotThePod(t *testing.T) {
	o := startOut(t)
	first := o.portPod("first")
	startMirror(t, first.NS, 80)
	var open []net.Conn
	for _, from := range []*sandbox.NS{o.beyond, sandbox.Host()} {
		for _, a := range hostAddrs() {
			conn, err := from.Dial("tcp", hostPort(a, 8080), answer)
			ok(t, err)
			defer conn.Close()
			_, err = whoAmI(conn)
			ok(t, err)
			open = append(open, conn)
		}
	}
	goOn := func(when string) {
		t.Helper()
		for i, conn := range open {
			if _, err := whoAmI(conn); err != nil {
				t.Errorf("%s: connection %d: %v", when, i, err)
			}
		}
		for _, a := range hostAddrs() {
			for _, network := range []string{"tcp", "udp"} {
				seenAt(t, o.beyond, network, a, 8080)
			}
		}
	}
	o.kill()
	goOn("while the agent is away")
	o.startAgent("weft-agent")
	o.settle()
	goOn("after its return")

	second := o.portPod("second")
	startMirror(t, second.NS, 80)
	ok(t, o.componentSays("host ports", "pod demo/first had it first"))
	goOn("with another pod that wants the ports")
	ok(t, o.runtime.DelPod(o.ctx, first))
	o.forget(first)
	o.remove("first.yaml")
	for i, conn := range open {
		ok(t, sandbox.Eventually(o.ctx, soon, fmt.Sprintf("the end of connection %d", i), func() error {
			if _, err := whoAmI(conn); err == nil {
				return errors.New("it was answered")
			}
			return nil
		}))
	}
	open = nil
	goOn("after the pod was replaced")
}

// componentSays waits for a line of weft status.
func (n *node) componentSays(component, want string) error {
	return sandbox.Eventually(n.ctx, soon, component, func() error {
		for _, c := range n.status().GetComponents() {
			if c.GetName() == component && strings.Contains(c.GetMessage(), want) {
				return nil
			}
		}
		return fmt.Errorf("no component %s says %q: %v", component, want, n.status().GetComponents())
	})
}
