// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

// scalePolicies let green ask the pods of app=many, and nobody else.
const scalePolicies = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: many, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: many}}
  ingress:
  - fromEndpoints:
    - matchLabels: {colour: green}
    toPorts:
    - ports:
      - {port: "8080", protocol: TCP}
`

// TestManyPodsComeAndGo adds and removes 500 pods (60 in an ordinary run) twice:
// every ADD works, the policy holds for a sample, and nothing stays, neither in
// the kernel nor on the node nor in the agent.
func TestManyPodsComeAndGo(t *testing.T) {
	count := 60
	if level.Long() {
		count = 500
	}
	n := startNode(t, `podCIDRs: ["10.244.0.0/22", "fd00:10:244::/64"]`)
	green, red := n.pod("green", "colour=green"), n.pod("red", "colour=red")
	n.write("policy.yaml", scalePolicies)
	before, beforeHost := kernelState(t), inventory(t)
	var first process
	for round := range 2 {
		started := time.Now()
		pods := n.addMany(count)
		added := time.Since(started)
		for i := 0; i < count; i += count / 5 {
			serve(t, pods[i], 8080)
			onBoth(t, func(t *testing.T, family int) {
				reaches(t, green.NS, "tcp", addrs(pods[i])[family], 8080)
				blocked(t, red.NS, "tcp", addrs(pods[i])[family], 8080)
			})
		}
		started = time.Now()
		n.removeMany(pods)
		t.Logf("%d pods added in %s, removed in %s", count, added.Round(time.Millisecond), time.Since(started).Round(time.Millisecond))
		ok(t, sandbox.Eventually(n.ctx, soon, "the kernel to forget them", func() error {
			return missing(kernelState(t), before)
		}))
		sameState(t, "after removal", kernelState(t), before)
		nothingLeft(t, "after removal", beforeHost)
		now := n.process()
		t.Logf("the agent has %d open files, %d MiB", now.files, now.rss>>20)
		if round == 0 {
			first = now
			continue
		}
		// The collector of garbage decides when memory goes back.
		if now.files > first.files || now.rss > first.rss+first.rss/4+16<<20 {
			t.Errorf("the agent grows: %+v after one round, %+v after two", first, now)
		}
	}
}

// addMany declares pods in one file and attaches them, four at a time.
func (n *node) addMany(count int) []*sandbox.Pod {
	n.t.Helper()
	var text strings.Builder
	for i := range count {
		text.WriteString("---\n" + podSpec{namespace: "demo", name: "many-" + strconv.Itoa(i), labels: []string{"app=many"}}.manifest())
	}
	n.write("many.yaml", text.String())
	pods := make([]*sandbox.Pod, count)
	ok(n.t, inParallel(count, func(i int) (err error) {
		pods[i], err = n.runtime.AddPod(n.ctx, "demo", "many-"+strconv.Itoa(i))
		return err
	}))
	n.pods = append(n.pods, pods...)
	return pods
}

func (n *node) removeMany(pods []*sandbox.Pod) {
	n.t.Helper()
	ok(n.t, inParallel(len(pods), func(i int) error { return n.runtime.DelPod(n.ctx, pods[i]) }))
	for _, p := range pods {
		n.forget(p)
	}
	n.remove("many.yaml")
}

// inParallel calls do for 0 to count-1, four at a time.
func inParallel(count int, do func(i int) error) error {
	errs := make([]error, count)
	room := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for i := range count {
		room <- struct{}{}
		wg.Go(func() { errs[i] = do(i); <-room })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// process is what the agent takes of the machine.
type process struct {
	files int
	rss   int // bytes
}

func (n *node) process() process {
	n.t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(n.agent.PID()))
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	ok(n.t, err)
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	ok(n.t, err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	_, err = fmt.Sscan(after, &kib)
	ok(n.t, err)
	return process{files: len(files), rss: kib << 10}
}
