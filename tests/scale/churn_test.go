// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

// Limits are generous: the machine may be busy. That of bytes is exact.
const (
	mostBytes  = 10_000 // to a node, of one endpoint's change
	mostHeap   = 60e6   // of an agent, bytes
	mostWrites = 3      // of slices, for a pod that comes and goes
)

// A cluster of 100 nodes and 10,000 pods, of which 20 a second come and go: every
// node learns of each soon, at a small price. Nothing is left behind.
func TestManyNodesFollowEachOthersPods(t *testing.T) {
	count, pods, fresh := level.Scale(100), level.Scale(10_000), level.Scale(1200)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(level.Scale(40))*time.Minute)
	defer cancel()
	begin, before := time.Now(), heap()
	f := newFleet(t, count, pods)
	must(t, f.settled(ctx, pods))
	each := (heap() - before) / float64(count)
	t.Logf("%d pods on %d nodes are known everywhere after %s; memory of an agent: %.1f MB", pods, count, time.Since(begin).Round(time.Second), each/1e6)
	if each > mostHeap {
		t.Errorf("an agent takes %.1f MB", each/1e6)
	}

	was, err := apiLoad(ctx)
	must(t, err)
	heard := make([]int64, count)
	for i, n := range f.nodes {
		heard[i] = n.wire.read.Load()
	}
	begin = time.Now()
	took, err := f.churn(ctx, pods, fresh, time.Second/20)
	must(t, err)
	lasted := time.Since(begin)
	must(t, f.settled(ctx, pods))
	is, err := apiLoad(ctx)
	must(t, err)

	slices.Sort(took)
	t.Logf("%d pods came and went in %s (%.1f a second); from the kernel of their node to that of the last: p50 %s, p99 %s, most %s",
		fresh, lasted.Round(time.Millisecond), float64(fresh)/lasted.Seconds(), took[fresh/2], took[fresh*99/100], took[fresh-1])
	for i, n := range f.nodes {
		heard[i] = (n.wire.read.Load() - heard[i]) / int64(2*fresh)
	}
	slices.Sort(heard)
	t.Logf("bytes to a node for each change of an endpoint: %d to %d", heard[0], heard[count-1])
	if most := heard[count-1]; most > mostBytes {
		t.Errorf("a change of an endpoint takes %d bytes to a node, want at most %d", most, mostBytes)
	}
	api := is.since(was)
	t.Logf("the API server, in %s: %s", lasted.Round(time.Millisecond), api)
	const slicesOf = " weftendpointslices"
	if n := api.requests["LIST"+slicesOf] + api.requests["WATCH"+slicesOf]; n > 0 {
		t.Errorf("slices were listed or watched anew %.0f times", n)
	}
	if n := api.requests["PATCH"+slicesOf] + api.requests["POST"+slicesOf] + api.requests["DELETE"+slicesOf]; n > mostWrites*float64(fresh) {
		t.Errorf("%.0f writes of slices for %d pods", n, fresh)
	}
	for _, n := range f.nodes {
		if faults := n.faults.Load(); faults > 0 {
			t.Errorf("%s counts %d faults", n.name, faults)
		}
	}
}

// heap is what is in use after garbage was collected, in bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
