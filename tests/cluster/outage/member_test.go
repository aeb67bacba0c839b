// SPDX-License-Identifier: Apache-2.0

package outage

import (
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
		w.apply(w.manifest(p))
		begun := time.Now()
		w.kubectl("wait --for=condition=Ready pod/" + p.name + " -n " + l.namespace + " --timeout=120s")
		w.addresses(p)
		t.Logf("a pod of the new node is ready after %.1f s", time.Since(begun).Seconds())
		w.eventually(20*time.Second, "reached: "+p.name, func() error {
			return errors.Join(w.connects(l.caller, p.ipv4), w.connects(l.caller, p.ipv6))
		})
		w.isolated(l.stranger, p.ipv4)
		w.removed(n)
		w.kubectl("delete pod --force --grace-period=0 --ignore-not-found -n " + l.namespace + " " + p.name)
		for i := range 2 {
			w.eventually(30*time.Second, fmt.Sprintf("without a trace on node %d of one that is gone", i+1), func() error {
				return lines(before[i+1], w.traces(i+1))
			})
		}
		if out := w.kubectl("get weftnodes,weftendpointslices -o name"); strings.Contains(out, "/"+n.Name()) {
			t.Errorf("of the node that is gone there is still\n%s", out)
		}
	}
	w.settled()
	l.nothingLost()
}

// removed takes a node away, if it is there.
func (w *world) removed(n *cluster.Node) {
	w.t.Helper()
	there := slices.ContainsFunc(w.Nodes(), func(have *cluster.Node) bool { return have.Name() == n.Name() })
	if !there {
		return
	}
	ctx, cancel := atEnd()
	defer cancel()
	if err := w.RemoveNode(ctx, n); err != nil {
		w.t.Error(err)
	}
}
