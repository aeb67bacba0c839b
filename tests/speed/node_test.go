// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/tests/sandbox"
)

const (
	manifestDir = "/etc/weft/manifests"
	namespace   = "demo"
	soon        = 60 * time.Second // tells a hang from a slow machine
)

// node is a host with the real agent. Its programs on sockets see only processes
// that are started in its group, so that others on the machine pay nothing.
type node struct {
	testing.TB
	group   string
	agent   *sandbox.Agent
	runtime *sandbox.Runtime
}

func startNode(tb testing.TB, settings ...string) *node {
	tb.Helper()
	bin, err := sandbox.BinDir()
	ok(tb, err)
	mount, err := cgroup.FindMount()
	ok(tb, err)
	n := &node{TB: tb, group: filepath.Join(mount, "pods"), runtime: sandbox.NewRuntime(bin)}
	ok(tb, os.MkdirAll(n.group, 0o755))
	ok(tb, os.MkdirAll(manifestDir, 0o755))
	const config = "/etc/weft/config.yaml"
	text := fmt.Sprintf("nodeName: node-1\nmetricsAddress: \"127.0.0.1:9465\"\ncgroup: %s\npodCIDRs: [\"10.244.0.0/20\", \"fd00:10:244::/64\"]\n%s\n", n.group, strings.Join(settings, "\n"))
	ok(tb, os.WriteFile(config, []byte(text), 0o644))
	n.agent, err = sandbox.StartAgent(sandbox.AgentConfig{Binary: filepath.Join(bin, "weft-agent"), Config: config})
	ok(tb, err)
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("agent's log:\n%s", n.agent.Log())
		}
		if err := n.agent.Kill(); err != nil { // what it leaves is taken away below
			tb.Error(err)
		}
		if out, err := exec.Command(filepath.Join(bin, "weft-agent"), "cleanup", "--config", config).CombinedOutput(); err != nil {
			tb.Errorf("cleanup: %v\n%s", err, out)
		}
		ok(tb, os.RemoveAll(manifestDir))
		ok(tb, os.Remove(n.group))
	})
	_, err = n.agent.Ready(context.Background(), soon)
	ok(tb, err)
	return n
}

// write puts a manifest into the folder and waits until the kernel has it.
func (n *node) write(file, text string) {
	n.Helper()
	tmp := filepath.Join(filepath.Dir(manifestDir), "."+file)
	ok(n, os.WriteFile(tmp, []byte(text), 0o644))
	before := n.status(false).GetDesiredRevision()
	ok(n, os.Rename(tmp, filepath.Join(manifestDir, file)))
	ok(n, sandbox.Eventually(context.Background(), soon, "a new revision", func() error {
		if now := n.status(false).GetDesiredRevision(); now <= before {
			return fmt.Errorf("revision is still %d", now)
		}
		return nil
	}))
	n.status(true)
}

func (n *node) status(realized bool) *agentv1.GetStatusResponse {
	n.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	s, err := n.agent.API().GetStatus(ctx, &agentv1.GetStatusRequest{WaitRealized: realized})
	ok(n, err)
	return s
}

// podManifest is a pod's manifest; labels are lines of "key: value".
func podManifest(pod string, labels ...string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n  labels:\n    name: %s\n%s"+
		"spec:\n  containers:\n  - {name: main, image: none}\n", pod, namespace, pod, indented(labels))
}

func indented(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("    " + l + "\n")
	}
	return b.String()
}

// attach calls the CNI plugin for pods that are declared.
func (n *node) attach(pods ...string) []*sandbox.Pod {
	n.Helper()
	out := make([]*sandbox.Pod, len(pods))
	n.each(len(pods), func(i int) (err error) {
		out[i], err = n.runtime.AddPod(context.Background(), namespace, pods[i])
		return err
	})
	n.Cleanup(func() {
		n.each(len(out), func(i int) error { return n.runtime.DelPod(context.Background(), out[i]) })
	})
	return out
}

// each does something for 0 to count-1, four at a time.
func (n *node) each(count int, do func(i int) error) {
	n.Helper()
	errs := make([]error, count)
	room := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i := range count {
		room <- struct{}{}
		wg.Go(func() {
			errs[i] = do(i)
			<-room
		})
	}
	wg.Wait()
	ok(n, errors.Join(errs...))
}
