// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package bench

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
)

const nodes = 3

var suite = framework.NewSuite(framework.Options{Name: "bench", Nodes: nodes, Programs: []string{"stopwatch", "traffic"},
	Pods: 60 * time.Second, Weft: 120 * time.Second, Poll: 5 * time.Millisecond})

func TestMain(m *testing.M) { suite.Main(m) }

// world is the cluster with Weft.
type world struct{ *framework.World }

// installed is the cluster with Weft as the README installs it.
func installed(b *testing.B) *world {
	b.Helper()
	w := &world{suite.Installed(b, "")}
	w.Settled()
	w.ok(w.WaitReady(b.Context(), time.Minute))
	return w
}

func (w *world) ok(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// namespace makes one that is gone when the benchmark has ended: the next one finds no
// pods on their way out.
func (w *world) namespace(name string) {
	w.T.Helper()
	w.Namespace(name, "")
	w.T.Cleanup(func() {
		if _, err := w.Cluster.Kubectl(context.Background(), "delete", "namespace", name, "--timeout=3m"); err != nil {
			w.T.Error(err)
		}
	})
}

// report makes a figure of its own of what was measured.
func report(b *testing.B, name string, value float64, unit string) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(value, unit)
		b.ReportMetric(0, "ns/op")
	})
}

// quantiles reports the median and the time within which 99 of 100 were done.
func quantiles(b *testing.B, name string, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	at := func(part float64) float64 {
		return float64(all[min(int(part*float64(len(all))), len(all)-1)].Microseconds()) / 1e3
	}
	report(b, name+"_p50", at(0.5), "ms")
	report(b, name+"_p99", at(0.99), "ms")
}
