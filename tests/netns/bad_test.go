// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// put writes a manifest file and waits for nothing.
func (n *node) put(name, text string) {
	n.t.Helper()
	tmp := filepath.Join(filepath.Dir(manifestDir), "."+name)
	ok(n.t, os.WriteFile(tmp, []byte(text), 0o644))
	ok(n.t, os.Rename(tmp, filepath.Join(manifestDir, name)))
}

// complains waits until the status of the manifests says all of the texts.
func (n *node) complains(texts ...string) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.ctx, soon, "complaint about a manifest", func() error {
		s := n.status()
		for _, c := range s.GetComponents() {
			if c.GetName() != "manifests" {
				continue
			}
			for _, text := range texts {
				if c.GetHealth() != agentv1.Health_HEALTH_DEGRADED || !strings.Contains(c.GetMessage(), text) {
					return fmt.Errorf("%v: %q, want %q", c.GetHealth(), c.GetMessage(), text)
				}
			}
			return nil
		}
		return fmt.Errorf("no component manifests in %v", s.GetComponents())
	}))
}

func (n *node) healthy() {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.ctx, soon, "health", func() error {
		if s := n.status(); s.GetHealth() != agentv1.Health_HEALTH_OK {
			return fmt.Errorf("%v", s.GetComponents())
		}
		return nil
	}))
}

// weft runs the command of users.
func (n *node) weft(args ...string) (string, error) {
	out, err := exec.CommandContext(n.ctx, filepath.Join(n.bin, "weft"), args...).CombinedOutput()
	return string(out), err
}

func TestBadManifestChangesNothingAndIsNamed(t *testing.T) {
	w := newTown(t)
	good := ruleCase{spec: toServer + "  ingress:\n  - fromEndpoints: [{matchLabels: {role: friend}}]\n"}.policy("policy")
	w.write("policy.yaml", good)
	holds := func() {
		t.Helper()
		w.check(t, "friend -> server: tcp 8080\nstranger, world -x server: tcp 8080")
	}
	holds()
	for _, bad := range []struct{ text, place, message string }{
		{strings.Replace(good, "fromEndpoints", "fromEndpoint", 1), "policy.yaml:7: spec.ingress[0].fromEndpoint", "fromEndpoints"},
		{good + "    toPorts: [{ports: [{port: \"80000\"}]}]\n", "policy.yaml:8: spec.ingress[0].toPorts[0].ports[0]", "80000"},
		{good + "    toPorts: [{ports: [{port: \"8080\", protocol: TCP}], rules: {http: [{method: \"GET)|(\"}]}}]\n",
			"policy.yaml:8: spec.ingress[0].toPorts[0].rules.http[0].method", "is not a regular expression"},
		{good + "  egress:\n  - toFQDNs: [{matchName: example.com}]\n", "policy.yaml:9: spec.egress[0].toFQDNs", "not supported yet"},
		{good + "  ingress: []\n", "policy.yaml:8: spec.ingress", "duplicate"},
		{"", "policy.yaml: ", "empty"},
		{"{", "policy.yaml", "YAML"},
	} {
		w.put("policy.yaml", bad.text)
		w.complains(bad.place, bad.message)
		holds()
	}
	out, err := w.weft("status")
	if !strings.Contains(out, "policy.yaml") {
		t.Errorf("weft status does not name the file: %v\n%s", err, out)
	}
	w.write("policy.yaml", strings.Replace(good, "friend", "stranger", 1))
	w.healthy()
	w.check(t, "stranger -> server: tcp 8080\nfriend -x server: tcp 8080")

	// A policy that was never good is not applied at all, and harms no other.
	w.put("new.yaml", ruleCase{spec: `
  endpointSelector: {}
  egress:
  - toFQDNs: [{matchName: example.com}]
  - toEntities: [host]
`}.policy("new"))
	w.complains("new.yaml:8: spec.egress[0].toFQDNs", "not supported yet")
	w.check(t, "stranger -> server, world: tcp 8080\nfriend -x server: tcp 8080")
	ok(t, os.Remove(filepath.Join(manifestDir, "new.yaml")))
	w.healthy()
}
