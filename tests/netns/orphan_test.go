// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/tests/sandbox"
)

// TestPoliciesReachAPodWhoseManifestWentWhileTheAgentWasAway: it goes on running
// with the labels it had last, not those it was attached with, over two starts.
func TestPoliciesReachAPodWhoseManifestWentWhileTheAgentWasAway(t *testing.T) {
	n := startNode(t)
	client := n.pod("client")
	before, beforeHost := kernelState(t), inventory(t)
	orphan := n.pod("orphan", "app=young")
	serve(t, orphan, 8080)
	// The record follows the pod beside the kernel, not before it.
	n.declare(podSpec{namespace: "demo", name: "orphan", labels: []string{"app=orphan"}})
	record := "/var/lib/weft/endpoints/" + orphan.ContainerID + "-" + orphan.IfName + ".json"
	ok(t, sandbox.Eventually(n.ctx, soon, "the record to have the new label", func() error {
		text, err := os.ReadFile(record)
		if err == nil && !strings.Contains(string(text), `"app": "orphan"`) {
			err = fmt.Errorf("it says %s", text)
		}
		return err
	}))
	n.kill()
	ok(t, os.Remove(filepath.Join(manifestDir, "pod-orphan.yaml")))
	reached := func(check func(*testing.T, *sandbox.NS, string, netip.Addr, uint16)) {
		t.Helper()
		onBoth(t, func(t *testing.T, family int) { check(t, client.NS, "tcp", addrs(orphan)[family], 8080) })
	}
	isolated := ruleCase{spec: "  endpointSelector: {matchLabels: {app: orphan}}\n  ingress: [{}]\n"}.policy("isolated")
	for range 2 {
		n.startAgent("weft-agent")
		reached(reaches)
		n.write("policy.yaml", isolated)
		reached(blocked)
		n.remove("policy.yaml")
		reached(reaches)
		n.kill()
	}
	n.startAgent("weft-agent")
	ok(t, n.runtime.DelPod(n.ctx, orphan))
	n.forget(orphan)
	ok(t, sandbox.Eventually(n.ctx, soon, "the kernel to forget it", func() error {
		return missing(kernelState(t), before)
	}))
	sameState(t, "after its DEL", kernelState(t), before)
	nothingLeft(t, "after its DEL", beforeHost)
}
