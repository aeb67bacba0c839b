// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"fmt"
	"strings"
)

// HasWeft tells whether Weft is installed.
func (w *World) HasWeft() bool {
	_, err := w.Cluster.Shell(w.T.Context(), "helm status weft --namespace weft-system")
	return err == nil
}

// Settled waits until Weft is ready everywhere.
func (w *World) Settled() {
	w.T.Helper()
	w.Shell(fmt.Sprintf("weft status --wait --timeout %v", w.options.Weft))
}

// Drops are the packets that a node's kernel has dropped, by reason, of its agent's
// metrics.
func Drops(metrics string) map[string]int {
	all := make(map[string]int)
	for line := range strings.SplitSeq(metrics, "\n") {
		var reason string
		var count float64
		_, line, _ = strings.Cut(strings.ReplaceAll(line, `"}`, ""), `weft_datapath_drop_packets_total{`)
		_, line, _ = strings.Cut(line, `reason="`)
		if _, err := fmt.Sscanf(line, "%s %g", &reason, &count); err == nil {
			all[reason] += int(count)
		}
	}
	return all
}
