// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

// Deadlines are generous: they tell a hang from a slow machine.
const (
	soon    = 20 * time.Second
	answer  = 2 * time.Second        // for traffic that must pass
	silence = 300 * time.Millisecond // for traffic that must not
)

const manifestDir = "/etc/weft/manifests"

// node is a host with the agent on it. Each test has one of its own.
type node struct {
	t       *testing.T
	ctx     context.Context
	bin     string
	config  string
	agent   *sandbox.Agent
	runtime *sandbox.Runtime
	pods    []*sandbox.Pod
	world   *sandbox.NS
	far     *sandbox.NS
	before  []string // what was on the node before the agent
}

// startNode starts the agent on an empty manifest folder. When the test ends,
// everything is deleted as a user would, and the node must then be clean.
func startNode(t *testing.T, settings ...string) *node {
	t.Helper()
	bin, err := sandbox.BinDir()
	ok(t, err)
	n := &node{t: t, ctx: t.Context(), bin: bin, config: "/etc/weft/config.yaml", runtime: sandbox.NewRuntime(bin)}
	ok(t, os.MkdirAll(manifestDir, 0o755))
	text := "nodeName: node-1\nmetricsAddress: \"127.0.0.1:9465\"\n" + strings.Join(settings, "\n") + "\n"
	ok(t, os.WriteFile(n.config, []byte(text), 0o644))
	n.world, n.far = worldUplink().wire(t), farUplink().wire(t)
	n.before = inventory(t)
	t.Cleanup(n.tearDown)
	n.startAgent("weft-agent")
	return n
}

// startAgent starts an agent binary and waits until it works.
func (n *node) startAgent(name string) {
	n.t.Helper()
	var err error
	n.agent, err = sandbox.StartAgent(sandbox.AgentConfig{Binary: filepath.Join(n.bin, name), Config: n.config})
	ok(n.t, err)
	_, err = n.agent.Ready(n.ctx, soon)
	ok(n.t, err)
}

func (n *node) tearDown() {
	n.t.Helper()
	if n.t.Failed() && n.agent != nil {
		n.t.Logf("agent's log:\n%s", n.agent.Log())
		if text, err := os.ReadFile("/run/weft/envoy.log"); err == nil {
			n.t.Logf("Envoy's log:\n%s", text)
		}
	}
	ctx := context.Background() // the test's own has ended
	for _, p := range n.pods {
		if err := n.runtime.DelPod(ctx, p); err != nil {
			n.t.Errorf("deleting pod %s: %v", p.Name, err)
		}
	}
	if n.agent != nil {
		if err := n.agent.Stop(); err != nil {
			n.t.Errorf("stopping the agent: %v", err)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(n.bin, "weft-agent"), "cleanup", "--config", n.config).CombinedOutput()
	if err != nil {
		n.t.Errorf("cleanup: %v\n%s", err, out)
	}
	for _, left := range inventory(n.t) {
		if !slices.Contains(n.before, left) {
			n.t.Errorf("left on the node: %s", left)
		}
	}
	for _, err := range []error{worldUplink().unwire(n.world), farUplink().unwire(n.far)} {
		if err != nil {
			n.t.Error(err)
		}
	}
	for _, f := range []string{manifestDir, n.config} {
		if err := os.RemoveAll(f); err != nil {
			n.t.Error(err)
		}
	}
}

// write puts a manifest file into the folder, as an editor would, and waits
// until the kernel has what it says.
func (n *node) write(name, text string) {
	n.t.Helper()
	tmp := filepath.Join(filepath.Dir(manifestDir), "."+name)
	ok(n.t, os.WriteFile(tmp, []byte(text), 0o644))
	before := n.status().GetDesiredRevision()
	ok(n.t, os.Rename(tmp, filepath.Join(manifestDir, name)))
	n.moved(before, "after writing "+name)
}

// remove deletes a manifest file and waits until the kernel knows.
func (n *node) remove(name string) {
	n.t.Helper()
	before := n.status().GetDesiredRevision()
	ok(n.t, os.Remove(filepath.Join(manifestDir, name)))
	n.moved(before, "after removing "+name)
}

// moved waits for a revision after that one, in the kernel.
func (n *node) moved(before uint64, when string) {
	n.t.Helper()
	ok(n.t, sandbox.Eventually(n.ctx, soon, "a new revision "+when, func() error {
		if now := n.status().GetDesiredRevision(); now <= before {
			return fmt.Errorf("revision is still %d", now)
		}
		return nil
	}))
	n.settle()
}

// settle waits until all intent is in the kernel.
func (n *node) settle() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, soon)
	defer cancel()
	_, err := n.agent.API().GetStatus(ctx, &agentv1.GetStatusRequest{WaitRealized: true})
	ok(n.t, err)
}

func (n *node) status() *agentv1.GetStatusResponse {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, soon)
	defer cancel()
	s, err := n.agent.API().GetStatus(ctx, &agentv1.GetStatusRequest{})
	ok(n.t, err)
	return s
}

// podSpec is what the scenarios say of a pod.
type podSpec struct {
	namespace, name string
	account         string   // service account; empty: default
	labels          []string // "key=value"
}

// pod declares a pod of namespace demo with labels "key=value" and attaches it.
func (n *node) pod(name string, labels ...string) *sandbox.Pod {
	n.t.Helper()
	return n.add(podSpec{namespace: "demo", name: name, labels: labels})
}

// add declares a pod and attaches it.
func (n *node) add(spec podSpec) *sandbox.Pod {
	n.t.Helper()
	n.declare(spec)
	p, err := n.runtime.AddPod(n.ctx, spec.namespace, spec.name)
	ok(n.t, err)
	n.pods = append(n.pods, p)
	return p
}

// declare writes a pod's manifest, first or again.
func (n *node) declare(spec podSpec) {
	n.t.Helper()
	n.write("pod-"+spec.name+".yaml", spec.manifest())
}

// forget takes a pod that the test has deleted itself off the list.
func (n *node) forget(p *sandbox.Pod) {
	for i, q := range n.pods {
		if q == p {
			n.pods = append(n.pods[:i], n.pods[i+1:]...)
			return
		}
	}
}

// manifest is the pod's manifest; it names port 8080 "web".
func (s podSpec) manifest() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n  labels:\n", s.name, s.namespace)
	fmt.Fprintf(&b, "    name: %s\n", s.name)
	for _, l := range s.labels {
		key, value, _ := strings.Cut(l, "=")
		fmt.Fprintf(&b, "    %s: %q\n", key, value)
	}
	b.WriteString("spec:\n")
	if s.account != "" {
		fmt.Fprintf(&b, "  serviceAccountName: %s\n", s.account)
	}
	b.WriteString("  containers:\n  - name: main\n    image: none\n    ports:\n    - {name: web, containerPort: 8080}\n    - {name: web-udp, containerPort: 8080, protocol: UDP}\n")
	return b.String()
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
