// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/cluster/framework"
)

const (
	knownPods = 100
	newPods   = 20
)

// pluginTimes is where the timed plugin notes.
const pluginTimes = "/run/weft-cni.times"

// BenchmarkPodAdd is how long the container runtime waits for the CNI plugin's ADD,
// from its start as a process to its end, pod after pod: of pods whose identity the
// node knows, as another pod here has the same, and of pods that are the first of
// their kind.
func BenchmarkPodAdd(b *testing.B) {
	w := installed(b)
	w.timePlugin(1)
	w.namespace("bench-add")
	w.add("first", 1, func(int) string { return "known" })
	quantiles(b, "known_identity", w.add("known", knownPods, func(int) string { return "known" }))
	quantiles(b, "new_identity", w.add("new", newPods, func(i int) string { return fmt.Sprintf("new%d", i) }))
}

// timePlugin puts the stopwatch where the runtime looks first.
func (w *world) timePlugin(n int) {
	w.T.Helper()
	w.On(n, "mkdir -p /opt/cni/first && cp "+w.Program("stopwatch")+" /opt/cni/first/weft-cni && : >"+pluginTimes)
	w.Finally(func(ctx context.Context) error {
		return framework.Said(w.Node(n).Run(ctx, "rm -r /opt/cni/first "+pluginTimes))
	})
}

// add makes pods on the first node, each when the one before it runs, and gives what
// their ADDs took.
func (w *world) add(kind string, count int, app func(int) string) (took []time.Duration) {
	w.T.Helper()
	for i := range count {
		name := fmt.Sprintf("%s-%d", kind, i)
		before := w.adds(1)
		w.Apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {namespace: bench-add, name: %s, labels: {app: %s}}\n"+
			"spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: main, image: \"%s\"}]}\n", name, app(i), cluster.PauseImage))
		w.Kubectl("wait --for=condition=Ready pod/" + name + " -n bench-add --timeout=60s")
		now := w.adds(1)
		if len(now) != len(before)+1 {
			w.T.Fatalf("pod %s runs after %d ADDs, not one", name, len(now)-len(before))
		}
		took = append(took, now[len(before)])
	}
	return took
}

// adds are the times of all ADDs of a node so far.
func (w *world) adds(n int) (took []time.Duration) {
	w.T.Helper()
	for line := range strings.Lines(w.On(n, "cat "+pluginTimes)) {
		var command string
		var ns int64
		if _, err := fmt.Sscan(line, &command, &ns); err != nil {
			w.T.Fatalf("%s: %q: %v", pluginTimes, line, err)
		}
		if command == "ADD" {
			took = append(took, time.Duration(ns))
		}
	}
	return took
}
