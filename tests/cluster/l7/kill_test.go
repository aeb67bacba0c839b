// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// atOnce is how long a request may take to be refused, on a machine that has other work;
// where nobody says no it takes ten seconds.
const atOnce = 3 * time.Second

// An Envoy is killed: connections that have nothing to do with it do not notice, requests
// that need it fail at once, and all is well when it is back, which it is by itself; also
// while the node's agent is away.
func TestAnEnvoyIsKilled(t *testing.T) {
	w := installed(t)
	l := w.loaded("l7-kill")
	l.nothingFailed("at first")
	before := w.notReady()
	l.killed("the agent there")
	back := w.agentAway(1)
	l.killed("the agent away")
	back()
	w.shell("weft status --wait --timeout 120s")
	l.flowing(20)
	l.onlyTheProxysFailed("at the end")
	if now := w.notReady(); now == before {
		t.Error("nobody was told that the proxy is not ready")
	}
}

// killed kills the Envoy of the caller's node.
func (l *load) killed(while string) {
	l.t.Helper()
	l.dies(1, "envoy")
	took := l.eventually(60*time.Second, "answered again", l.again)
	l.t.Logf("%s: answered again %v after another Envoy ran", while, took.Round(100*time.Millisecond))
	l.onlyTheProxysFailed(while)
}

// notReady is how many packets the first node's kernel has refused because no proxy
// listened for them.
func (w *world) notReady() (n int) {
	w.t.Helper()
	for line := range strings.Lines(w.node(1, w.traffic()+" ask http://127.0.0.1:9465/metrics")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, "weft_datapath_drop_packets_total{") && strings.Contains(name, `reason="PROXY_NOT_READY"`) {
			one, err := strconv.Atoi(value)
			if err != nil {
				w.t.Fatalf("%s: %v", line, err)
			}
			n += one
		}
	}
	return n
}

// again is nil when no way has failed between two looks, and all have been answered.
func (l *load) again() error {
	before := l.ask("counts")
	l.flowing(20)
	for name, now := range l.ask("counts") {
		if now.Failed != before[name].Failed {
			return fmt.Errorf("%s: %+v, before %+v", name, now, before[name])
		}
	}
	return nil
}

// onlyTheProxysFailed looks at what has failed until now.
func (l *load) onlyTheProxysFailed(while string) {
	l.t.Helper()
	failed := 0
	for name, c := range l.ask("counts") {
		switch {
		case plain(name) && c.Failed != 0:
			l.t.Errorf("%s: %s has nothing to do with the proxy, and %d of %d failed: %v", while, name, c.Failed, c.Sent, c.Errors)
		case time.Duration(c.SlowMS)*time.Millisecond > atOnce:
			l.t.Errorf("%s: %s: a request took %d ms to fail: %v", while, name, c.SlowMS, c.Errors)
		}
		failed += c.Failed
	}
	l.t.Logf("%s: %d requests have failed", while, failed)
}

// Patches of the agents' DaemonSet: it goes where no node has the label l7=away, and no
// agent is replaced for that; and as the chart has it.
const (
	awayPatch = `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"template":{"spec":{"affinity":{"nodeAffinity":` +
		`{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"l7","operator":"NotIn","values":["away"]}]}]}}}}}}}`
	backPatch = `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"10%"}},"template":{"spec":{"affinity":null}}}}`
)

// agentAway takes the agent off a node until back is called, at the latest when the test
// ends.
func (w *world) agentAway(n int) (back func()) {
	w.t.Helper()
	name, is := w.Node(n).Name(), true
	back = func() {
		if is {
			is = false
			w.must("label", "node", name, "l7-")
			w.must("patch", agents, "-n", "weft-system", "--type=merge", "-p", backPatch)
		}
	}
	w.t.Cleanup(back)
	w.must("label", "node", name, "l7=away", "--overwrite")
	w.must("patch", agents, "-n", "weft-system", "--type=merge", "-p", awayPatch)
	w.eventually(60*time.Second, "without an agent", func() error {
		if left := w.processes(n, "weft-agent"); len(left) > 0 {
			return errors.New("there are " + strings.Join(left, " "))
		}
		return nil
	})
	return back
}
