// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/rounds"
)

const (
	trafficRounds = 15
	trafficTime   = 250 * time.Millisecond
)

// isolation lets the client alone speak to the server, so that policy is asked.
const isolation = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: server}}
  ingress:
  - fromEndpoints:
    - matchLabels: {name: client}
`

// weftPair is two pods of the node, the server isolated.
func (n *node) weftPair() *pair {
	n.Helper()
	n.write("pods.yaml", podManifest("client")+podManifest("server"))
	n.write("policy.yaml", isolation)
	pods := n.attach("client", "server")
	return &pair{client: pods[0].NS, server: pods[1].NS, server4: pods[1].IPv4, server6: pods[1].IPv6, group: n.group}
}

// BenchmarkPodToPod is requests, new connections and a stream between two pods of
// one host, by Weft and by the kernel's own routing, in turn.
func BenchmarkPodToPod(b *testing.B) {
	weft, plain := startNode(b).weftPair(), &newPlainHost(b, "plain").pair
	weft.serve(b)
	plain.serve(b)
	for _, kind := range []struct {
		kind, name, unit string
		port             uint16
		scale            float64
	}{
		{kindRequest, "request_p50", "us", echoPort, 1e-3},
		{kindConnect, "connect_request_p50", "us", echoPort, 1e-3},
		{kindStream, "stream", "Gbit/s", sinkPort, 8e-9},
	} {
		side := func(label string, p *pair) rounds.Side {
			return rounds.Side{Name: label, Measure: func(tb testing.TB) float64 {
				return measure(tb, p.client, p.group, order{Kind: kind.kind, At: at(p.server4, kind.port), CPU: 1, For: trafficTime})
			}}
		}
		b.Run(kind.name, func(b *testing.B) {
			medians := rounds.Medians(b, trafficRounds, []rounds.Side{side("weft", weft), side("kernel_routing", plain)})
			for _, label := range []string{"weft", "kernel_routing"} {
				rounds.Report(b, label, medians[label]*kind.scale, kind.unit)
			}
		})
	}
}
