// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

func TestPodsAndHostTalkWithoutPolicy(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server")
	serve(t, server, 8080)
	onBoth(t, func(t *testing.T, family int) {
		to := addrs(server)[family]
		for _, network := range []string{"tcp", "udp"} {
			reaches(t, client.NS, network, to, 8080)
			reaches(t, sandbox.Host(), network, to, 8080)
		}
		pings(t, client.NS, to)
		pings(t, sandbox.Host(), to)
	})
}

func TestIngressPolicyByLabel(t *testing.T) {
	n := startNode(t)
	friend, stranger, server := n.pod("friend", "role=friend"), n.pod("stranger"), n.pod("server", "app=server")
	serve(t, server, 8080)
	serve(t, server, 9090)
	n.write("policy.yaml", `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints:
    - matchLabels: {role: friend}
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
`)
	onBoth(t, func(t *testing.T, family int) {
		to := addrs(server)[family]
		reaches(t, friend.NS, "tcp", to, 8080)
		blocked(t, friend.NS, "tcp", to, 9090)
		blocked(t, friend.NS, "udp", to, 8080)
		blocked(t, stranger.NS, "tcp", to, 8080)
		noPing(t, friend.NS, to)
		reaches(t, sandbox.Host(), "tcp", to, 9090)
	})
	n.remove("policy.yaml")
	onBoth(t, func(t *testing.T, family int) {
		reaches(t, stranger.NS, "tcp", addrs(server)[family], 8080)
	})
}
