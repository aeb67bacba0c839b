// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
)

// A node comes, goes for good with pods on it, and comes again under its name. The
// others go on, have what is there of it, and nothing of one that is gone.
func TestANodeComesAndGoes(t *testing.T) {
	w := installed(t)
	l := w.loaded("outage-member")
	before := map[int]string{1: w.traces(1), 2: w.traces(2)}
	for round := range 2 {
		n, err := w.AddNode(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.removed(n) })
		number := len(w.Nodes())
		p := l.pod(fmt.Sprintf("new-%d", round), number, "server")
		w.Apply(w.Manifest(p))
		begun := time.Now()
		w.Kubectl("wait --for=condition=Ready pod/" + p.Name + " -n " + l.namespace + " --timeout=120s")
		w.Addresses(p)
		t.Logf("a pod of the new node is ready after %.1f s", time.Since(begun).Seconds())
		w.Eventually(20*time.Second, "reached: "+p.Name, func() error {
			return errors.Join(w.Connects(l.caller, p.IPv4, 7000), w.Connects(l.caller, p.IPv6, 7000))
		})
		w.isolated(l.stranger, p.IPv4)
		w.removed(n)
		w.Kubectl("delete pod --force --grace-period=0 --ignore-not-found -n " + l.namespace + " " + p.Name)
		for i := range 2 {
			w.Eventually(30*time.Second, fmt.Sprintf("without a trace on node %d of one that is gone", i+1), func() error {
				return lines(before[i+1], w.traces(i+1))
			})
		}
		if out := w.Kubectl("get weftnodes,weftendpointslices -o name"); strings.Contains(out, "/"+n.Name()) {
			t.Errorf("of the node that is gone there is still\n%s", out)
		}
	}
	w.Settled()
	l.nothingLost()
}

// removed takes a node away, if it is there.
func (w *world) removed(n *cluster.Node) {
	w.T.Helper()
	there := slices.ContainsFunc(w.Nodes(), func(have *cluster.Node) bool { return have.Name() == n.Name() })
	if !there {
		return
	}
	w.Always(func(ctx context.Context) error { return w.RemoveNode(ctx, n) })
}
