// SPDX-License-Identifier: Apache-2.0

//go:build l7

package speed

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/rounds"
)

const (
	memoryPods     = 300
	memoryRulesets = 100
)

// BenchmarkL7Memory is what the agent and Envoy take together at rest, with many
// endpoints and rulesets.
func BenchmarkL7Memory(b *testing.B) {
	n := startNode(b, envoySetting(b))
	n.write("pods.yaml", deployments(memoryPods, memoryPods/memoryRulesets))
	n.write("policies.yaml", webPolicies(memoryRulesets))
	n.attach(podNames(memoryPods)...)
	n.proxyReady(memoryRulesets)
	agent := n.restingRSS(n.agent.PID())
	envoy := n.restingRSS(envoyPID(b))
	rounds.Report(b, "agent", agent, "MB")
	rounds.Report(b, "envoy", envoy, "MB")
	rounds.Report(b, "both", agent+envoy, "MB")
}

// webPolicies ask something else of the requests to each kind of pods.
func webPolicies(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "---\napiVersion: weftmesh.io/v1alpha1\nkind: WeftNetworkPolicy\nmetadata: {name: p%d, namespace: %s}\n"+
			"spec:\n  endpointSelector: {matchLabels: {app: app%d}}\n"+
			"  ingress:\n  - fromEndpoints: [{matchLabels: {app: app%d}}]\n"+
			"    toPorts: [{ports: [{port: \"8080\", protocol: TCP}], rules: {http: [{method: GET, path: /p%d/.*}, {method: POST, path: \"/orders/[0-9]+\", host: a.example}]}}]\n",
			i, namespace, i, (i+1)%count, i)
	}
	return b.String()
}
