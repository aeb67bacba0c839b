// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

const policyChanges = 100 // each way

// policy isolates the targets; the rule, if there is one, lets the prober in.
const policy = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: targets, namespace: bench-policy}
spec:
  podSelector: {matchLabels: {app: target}}
  policyTypes: [Ingress]
  ingress: [%s]
`

// BenchmarkPolicyApply is how long it takes from the start of kubectl apply until the
// last of all kernels decides by the policy. Each node has a pod that answers, and one
// prober asks all of them every 2 ms; the policy alternately shuts it out and lets it
// in, on flows that are open. What counts is when the first question was sent that met
// the new verdict, at the node that was last. The same change is also made by the
// request alone that kubectl makes, which takes its time to start and to ask what
// the server has.
func BenchmarkPolicyApply(b *testing.B) {
	w := installed(b)
	w.namespace("bench-policy")
	log := w.startProber()
	flipped := make([]int64, nodes)
	for n := range nodes {
		flipped[n] = w.awaitFlip(log, n+1, "open", 0)
	}
	p := w.startProxy()
	took := map[string][]time.Duration{}
	for i := range 2 * policyChanges {
		state, rule := "shut", ""
		if i%2 == 1 {
			state, rule = "open", "{from: [{podSelector: {matchLabels: {app: prober}}}]}"
		}
		by, yaml := "kubectl", fmt.Sprintf(policy, rule)
		begin := monotonic(b)
		if i%4 < 2 {
			w.Apply(yaml)
			took["kubectl_returns"] = append(took["kubectl_returns"], time.Duration(monotonic(b)-begin))
		} else {
			by = "request"
			w.ok(p.apply("/apis/networking.k8s.io/v1/namespaces/bench-policy/networkpolicies/targets", yaml))
		}
		last := int64(0)
		for n := range nodes {
			flipped[n] = w.awaitFlip(log, n+1, state, flipped[n])
			last = max(last, flipped[n])
		}
		took[by+"_to_verdict"] = append(took[by+"_to_verdict"], time.Duration(last-begin))
	}
	for _, name := range slices.Sorted(maps.Keys(took)) {
		quantiles(b, name, took[name])
	}
}

// startProber makes the pods, and gives the path of the prober's log.
func (w *world) startProber() string {
	w.T.Helper()
	const log = "prober.log"
	if err := os.Remove(filepath.Join(w.Programs(), log)); err != nil && !os.IsNotExist(err) {
		w.T.Fatal(err)
	}
	var targets []*framework.Pod
	for n := range nodes {
		targets = append(targets, &framework.Pod{Namespace: "bench-policy", Name: target(n + 1), Node: n + 1, Labels: "app: target",
			Command: []string{"/programs/traffic", "serve"}})
	}
	w.Make(targets...)
	command := []string{"/programs/stopwatch", "probe", "/programs/" + log}
	for _, p := range targets {
		command = append(command, p.Name+"="+p.IPv4+":7000")
	}
	w.Make(&framework.Pod{Namespace: "bench-policy", Name: "prober", Node: 1, Labels: "app: prober", Command: command})
	return filepath.Join(w.Programs(), log)
}

func target(node int) string { return fmt.Sprint("target-", node) }

// awaitFlip waits until a node's target is what it is to be, since a time after its last
// flip, and tells since when. That may be a little before the change: questions that were
// still under way when the policy shut the target are not answered any more.
func (w *world) awaitFlip(log string, node int, state string, since int64) (at int64) {
	w.T.Helper()
	w.Eventually(time.Minute, fmt.Sprintf("node %d %s", node, state), func() error {
		content, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		is := ""
		for line := range strings.Lines(string(content)) {
			var name, now string
			var when int64
			if _, err := fmt.Sscan(line, &name, &now, &when); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
			if name == target(node) {
				is, at = now, when
			}
		}
		if is == state && at > since {
			return nil
		}
		return fmt.Errorf("the prober's log has no such line:\n%s", content)
	})
	return at
}

func monotonic(b *testing.B) int64 {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}
