// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

const isolatedIngress = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: isolated, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: %s}}
  enableDefaultDeny: {ingress: true}
  ingress:
  - fromEntities: [all]
`

const nothingIn = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: isolated, namespace: demo}
spec:
  podSelector: {matchLabels: {app: %s}}
  policyTypes: [Ingress]
`

// refuses fails unless a datagram to a closed port gives "connection refused".
func refuses(t *testing.T, n *node, from *sandbox.NS, to netip.Addr) {
	t.Helper()
	conn, err := from.Dial("udp", hostPort(to, 9), soon)
	ok(t, err)
	defer conn.Close()
	// Hosts limit how many errors they send a second, so one may have to be asked for again.
	if err := sandbox.Eventually(n.ctx, soon, "connection refused", func() error {
		_, err := sandbox.AskOn(conn, "anyone?", silence)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("got %w", err)
	}); err != nil {
		t.Errorf("%s asks %s: %v", from.Name, to, err)
	}
}

func TestErrorsOfKnownFlowsPass(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client", "app=client"), n.pod("server")
	n.write("policy.yaml", fmt.Sprintf(nothingIn, "client"))
	onBoth(t, func(t *testing.T, family int) {
		refuses(t, n, client.NS, addrs(server)[family])
		refuses(t, n, client.NS, hostAddrs()[family])
		refuses(t, n, client.NS, worldAddrs()[family])
		refuses(t, n, sandbox.Host(), addrs(server)[family])
		refuses(t, n, n.world, addrs(server)[family])
		blocked(t, server.NS, "tcp", addrs(client)[family], 8080)
	})
}

// An error must quote a packet of a flow that is known, and that went from its
// receiver to its sender; every other is dropped and counted.
func TestErrorsOfUnknownFlowsDoNot(t *testing.T) {
	w := startWatch(t)
	onBoth(t, func(t *testing.T, family int) {
		own, victim, world := addrs(w.attacker)[family], addrs(w.victim)[family], worldAddrs()[family]
		third := w.pod(fmt.Sprintf("third-%d", family))
		serve(t, third, 8080)
		conn, err := w.victim.NS.Dial("udp", hostPort(addrs(third)[family], 8080), soon)
		ok(t, err)
		defer conn.Close()
		_, err = sandbox.AskOn(conn, "hello", answer)
		ok(t, err)
		flow := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
		server := netip.AddrPortFrom(addrs(third)[family], 8080)
		quote := func(from, to netip.AddrPort, text string) []byte {
			return datagram{src: from.Addr(), dst: to.Addr(), proto: protoUDP, body: udpTo(from, to, text)}.bytes()
		}
		port := func(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }
		for name, d := range map[string]datagram{
			"a flow that never was":         unreachable(own, victim, quote(port(victim, 5000), port(own, 6000), "never was")),
			"a flow of two others":          unreachable(own, victim, quote(flow, server, "of two others")),
			"a flow of others, wrong way":   unreachable(own, victim, quote(server, flow, "wrong way")),
			"its own packet":                unreachable(own, victim, quote(port(own, 5000), port(victim, 6000), "own packet")),
			"nothing":                       unreachable(own, victim, []byte("no packet is quoted in this message")),
			"a flow of the world":           unreachable(own, world, quote(port(world, 5000), port(own, 6000), "of the world")),
			"a flow of the host, to a pod":  unreachable(own, victim, quote(port(hostAddrs()[family], 5000), port(own, 6000), "of the host")),
			"a flow with a transport short": unreachable(own, victim, quote(port(victim, 5000), port(own, 6000), "short")[:22]),
		} {
			w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW, frames: [][]byte{w.frame(d)}})
		}
		if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW); err != nil {
			t.Error(err)
		}
		// The flow that was spoken of is as it was.
		if _, err := sandbox.AskOn(conn, "still here", answer); err != nil {
			t.Errorf("the flow of the others ended: %v", err)
		}
		fromTheWorld(t, w, family)
	})
}

// fromTheWorld sends errors about nothing from beyond the host.
func fromTheWorld(t *testing.T, w *watch, family int) {
	t.Helper()
	victim, world := addrs(w.victim)[family], worldAddrs()[family]
	out := w.taps["world"]
	text := fmt.Sprintf("nothing known, %d", family)
	from, to := netip.AddrPortFrom(victim, 5000), netip.AddrPortFrom(world, 6000)
	quoted := datagram{src: victim, dst: world, proto: protoUDP, body: udpTo(from, to, text)}.bytes()
	d := unreachable(world, victim, quoted)
	before := w.drops(agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW)
	ok(t, out.Send(ether(uplinkMAC(t), out.MAC, d.etherType(), d.bytes())))
	if err := w.counted(agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW, before, 1); err != nil {
		t.Errorf("an error from the world: %v", err)
	}
	for _, seen := range w.beacon([][]byte{[]byte(text)}) {
		if !bytes.HasPrefix([]byte(seen), []byte("world: ")) {
			t.Errorf("an error from the world came out at %s", seen)
		}
	}
}

const nothingOut = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: quiet, namespace: demo}
spec:
  podSelector: {matchLabels: {name: attacker}}
  policyTypes: [Egress]
`

// A flow that was let pass gives no leave for errors about it once a policy
// refuses it.
func TestErrorsEndWithTheirFlow(t *testing.T) {
	w := startWatch(t)
	echo, err := sandbox.StartEcho(w.world, "world", 8080)
	ok(t, err)
	t.Cleanup(echo.Close)
	var messages []datagram
	for family := range 2 {
		conn, err := w.attacker.NS.Dial("udp", hostPort(worldAddrs()[family], 8080), soon)
		ok(t, err)
		defer conn.Close()
		_, err = sandbox.AskOn(conn, "hello", answer)
		ok(t, err)
		from := netip.MustParseAddrPort(conn.LocalAddr().String())
		to := netip.AddrPortFrom(worldAddrs()[family], 8080)
		text := fmt.Sprintf("quoted, %d", family)
		quoted := datagram{src: to.Addr(), dst: from.Addr(), proto: protoUDP, body: udpTo(to, from, text)}.bytes()
		d := unreachable(from.Addr(), to.Addr(), quoted)
		w.arrives(d, "world", text)
		messages = append(messages, d)
	}
	w.write("policy.yaml", nothingOut)
	for _, d := range messages {
		before := w.drops(agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW)
		frame := w.frame(d)
		ok(t, w.raw.Send(frame))
		if err := w.counted(agentv1.DropReason_DROP_REASON_ICMP_NO_FLOW, before, 1); err != nil {
			t.Error(err)
		}
		w.hostSends(worldAddrs()[0], w.taps["world"], frame, "an error about a flow that was refused")
	}
}

// Extension headers do not hide the port from the policy.
func TestPolicySeesThroughExtensionHeaders(t *testing.T) {
	w := startWatch(t)
	w.write("policy.yaml", fmt.Sprintf(isolatedIngress, "victim")+`    toPorts: [{ports: [{port: "7777"}]}]`)
	src, dst := w.attacker.IPv6, w.victim.IPv6
	for name, chain := range map[string][]byte{
		"destination options": {protoDestOpts}, "hop-by-hop": {protoHopByHop},
		"both": {protoHopByHop, protoDestOpts}, "six": {0, 60, 60, 60, 60, 60},
	} {
		for _, proto := range []byte{protoUDP, protoTCP} {
			d := func(port uint16, text string) datagram {
				from, to := netip.AddrPortFrom(src, 4100), netip.AddrPortFrom(dst, port)
				body := udpTo(from, to, text)
				if proto == protoTCP {
					body = tcpTo(from, to, tcpSYN, 1, 0, text)
				}
				return datagram{src: src, dst: dst, proto: chain[0], body: append(extensions(chain, proto), body...)}
			}
			text := fmt.Sprintf("seen through %s to %d", name, proto)
			w.arrives(d(beaconPort, text), "victim", text)
			w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_POLICY_DEFAULT,
				frames: [][]byte{w.frame(d(9999, "refused behind "+name))}})
		}
	}
}

// extensions is a chain of extension headers before a transport.
func extensions(chain []byte, transport byte) []byte {
	var out []byte
	for _, next := range append(chain[1:len(chain):len(chain)], transport) {
		out = append(out, extension(next)...)
	}
	return out
}
