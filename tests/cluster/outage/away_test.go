// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster"
	"github.com/weftmesh/weft/tests/level"
)

// outageOf the API server: two minutes in a long run.
func outageOf() time.Duration {
	if level.Long() {
		return 2 * time.Minute
	}
	return 12 * time.Second
}

// The API server hangs, or no node has a way to it. Nothing changes on the nodes, agents
// are killed meanwhile, and a pod whose sandbox ends is made anew by those that know it.
func TestTheAPIServerIsAway(t *testing.T) {
	installed(t)
	t.Run("hangs", func(t *testing.T) { again(t).awayFor(outageOf(), "outage-hangs", (*world).HangAPIServer) })
	t.Run("unreachable", func(t *testing.T) { again(t).awayFor(outageOf(), "outage-unreachable", (*world).unreachable) })
}

// unreachable takes the ways to the API server from the nodes.
func (w *world) unreachable() (back func()) {
	w.T.Helper()
	var all []func()
	for i := range w.Nodes() {
		all = append(all, w.RouteAway(i+1, cluster.RouterIPv4+"/32"))
	}
	return func() {
		for _, back := range all {
			back()
		}
	}
}

func (w *world) awayFor(period time.Duration, namespace string, away func(*world) func()) {
	l := w.loaded(namespace)
	doomed := l.pod("doomed", 2, "server")
	w.Make(doomed)
	w.Eventually(10*time.Second, "reached", func() error { return w.Connects(l.caller, doomed.IPv4, 7000) })
	before := map[int]string{1: w.state(1), 2: w.state(2), 3: w.state(3)}
	was := func(nodes ...int) func() error {
		return func() (err error) {
			for _, n := range nodes {
				err = errors.Join(err, lines(before[n], w.state(n)))
			}
			return err
		}
	}
	back := away(w)
	until := time.Now().Add(period)
	w.dies(w.agent(1))
	w.Holds(period/3, "as it was", was(1, 2, 3))
	w.endSandbox(doomed)
	w.Eventually(30*time.Second, "made anew: "+doomed.Name, func() error { return w.anew(doomed) })
	w.Holds(time.Until(until)/2, "as it was", was(1, 3))
	before[2] = w.state(2)
	w.dies(w.agent(2))
	w.Holds(time.Until(until), "as it was", was(1, 2, 3))
	back()
	w.Eventually(30*time.Second, "an API server again", w.apiServer)
	took := w.Eventually(15*time.Second, "reached where it is now: "+doomed.Name, func() error {
		w.Addresses(doomed)
		return w.Connects(l.caller, doomed.IPv4, 7000)
	})
	w.T.Logf("the other node knows the pod's new address after %.1f s", took.Seconds())
	w.Settled()
	l.nothingLost()
}

// state is what may not change on a node: rows of maps with their values, links,
// addresses, routes, pins.
func (w *world) state(n int) string {
	w.T.Helper()
	return strings.Join(linkTrace.FindAllString(w.network(n), -1), "") + w.rows(n, true) + w.On(n, "cd /sys/fs/bpf/weft && find . | sort")
}

// dies kills a part and waits until it is there again.
func (w *world) dies(p *part) {
	w.T.Helper()
	if err := p.kill(); err != nil {
		w.T.Fatalf("killing %s: %v", p.name, err)
	}
	w.Eventually(30*time.Second, "back: "+p.name, p.back)
}

// sandbox of a pod, on its node.
func (w *world) sandbox(p *pod) string {
	w.T.Helper()
	return strings.TrimSpace(w.On(p.Node, fmt.Sprintf(
		`ctr -n k8s.io containers ls -q 'labels."io.kubernetes.pod.namespace"==%s,labels."io.kubernetes.pod.name"==%s,labels."io.cri-containerd.kind"==sandbox' 2>/dev/null`,
		p.Namespace, p.Name)))
}

// endSandbox kills what holds a pod's network.
func (w *world) endSandbox(p *pod) {
	w.T.Helper()
	w.On(p.Node, "ctr -n k8s.io tasks kill -s 9 "+w.sandbox(p))
}

// anew is nil when a pod runs in another sandbox, with other addresses, and answers its
// node there.
func (w *world) anew(p *pod) error {
	out := w.On(p.Node, "weft endpoint list -o json")
	for record := range strings.SplitSeq(out, "}") {
		_, name, _ := strings.Cut(record, `"pod": "`)
		name, _, _ = strings.Cut(name, `"`)
		_, ip, _ := strings.Cut(record, `"ipv4": "`)
		ip, _, _ = strings.Cut(ip, `"`)
		if name == p.Name && ip != p.IPv4 {
			now := *p
			now.IPv4 = ip
			var heard map[string]int
			return w.Ask(&now, "heard", &heard)
		}
	}
	return fmt.Errorf("the endpoints of node %d are\n%s", p.Node, out)
}
