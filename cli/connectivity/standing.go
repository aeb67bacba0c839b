// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// standing tells what Weft itself lacks, before pods are made: they would show it later,
// in other words, or be put on other nodes.
func (r *runner) standing(ctx context.Context) error {
	const check = "Weft is ready"
	state, err := r.Cluster.State(ctx, time.Now())
	if err != nil {
		return fmt.Errorf("looking at Weft: %w", err)
	}
	missing := append(state.Missing(), r.bare...)
	for _, what := range missing {
		r.Report(Result{Test: "setup", Check: check, Status: Failed, Expected: "it is ready on every node", Happened: what, Hint: "weft status"})
	}
	if len(missing) == 0 {
		r.Report(Result{Test: "setup", Check: check, Status: OK})
	}
	return nil
}

// needsAgent tells whether the node should have one: the DaemonSet is for Linux.
func needsAgent(n *corev1.Node) bool {
	os := n.Labels[corev1.LabelOSStable]
	return os == "" || os == "linux"
}
