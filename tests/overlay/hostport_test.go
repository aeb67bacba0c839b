// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// lead makes a port of the node's at its own addresses the pod's.
func (n *node) lead(p *pod, port, podPort uint16) {
	n.Helper()
	for family, addr := range n.addrs {
		for i, proto := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			number := uint32(1 + 2*family + i)
			ok(n, n.dp.ApplyBackends([]model.BackendRow{{ID: number, Addr: p.addrs[family], Port: podPort, Protocol: proto}}))
			ok(n, n.dp.ApplySlots(model.SlotTable{Service: number, Backends: []uint32{number}}))
			ok(n, n.dp.ApplyFrontends([]model.FrontendRow{{
				FrontendKey: model.FrontendKey{Addr: addr, Port: port, Protocol: proto}, Service: number, Slots: 1, HostPort: true,
			}}))
		}
	}
}

// A port of a node's is reached through the tunnel from pods of another node, whose
// identity decides, and beside it from that node itself; the answers come from the
// port.
func TestPortOfANodeThroughTheTunnel(t *testing.T) {
	for outer, name := range []string{"over IPv4", "over IPv6"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, outer, 2)
			a, b := c.nodes[0], c.nodes[1]
			client, stranger, server := a.pod(300), a.pod(400), b.pod(301)
			server.serve(80)
			b.lead(server, 8080, 80)
			ok(t, b.dp.ApplyIdentities([]model.IdentityID{300, 400}, nil))
			server.isolate(from(300, model.ActionAllow, 7), from(model.IdentityRemoteNode, model.ActionAllow, 8))
			onBoth(t, func(t *testing.T, family int) {
				to := hostPort(b.addrs[family], 8080)
				for _, network := range []string{"tcp", "udp"} {
					for _, ns := range []*sandbox.NS{client.ns, a.ns} {
						if got, err := sandbox.Ask(ns, network, to, "hello", soon); err != nil || got != "pod hello" {
							t.Errorf("%s from %s: %q, %v", network, ns.Name, got, err)
						}
					}
				}
				before := b.counted("POLICY_DEFAULT")
				if _, err := sandbox.Ask(stranger.ns, "tcp", to, "hello", never); err == nil {
					t.Error("a stranger got in")
				}
				if b.counted("POLICY_DEFAULT") == before {
					t.Error("the drop was not counted")
				}
			})
		})
	}
}
