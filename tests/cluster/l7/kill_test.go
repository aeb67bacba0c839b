// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"fmt"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/cluster/framework"
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
	back := w.AgentAway(1)
	l.killed("the agent away")
	back()
	w.Settled()
	l.Flowing(settle, l.caller, 20)
	l.onlyTheProxysFailed("at the end")
	if now := w.notReady(); now == before {
		t.Error("nobody was told that the proxy is not ready")
	}
}

// killed kills the Envoy of the caller's node.
func (l *load) killed(while string) {
	l.T.Helper()
	l.Dies(1, "envoy", 60*time.Second)
	took := l.Eventually(60*time.Second, "answered again", l.again)
	l.T.Logf("%s: answered again %v after another Envoy ran", while, took.Round(100*time.Millisecond))
	l.onlyTheProxysFailed(while)
}

// notReady is how many packets the first node's kernel has refused because no proxy
// listened for them.
func (w *world) notReady() int {
	w.T.Helper()
	return framework.Drops(w.On(1, w.Program("traffic")+" ask http://127.0.0.1:9465/metrics"))["PROXY_NOT_READY"]
}

// again is nil when no way has failed between two looks, and all have been answered.
func (l *load) again() error {
	before := l.Counts(l.caller, "counts")
	l.Flowing(settle, l.caller, 20)
	for name, now := range l.Counts(l.caller, "counts") {
		if now.Failed != before[name].Failed {
			return fmt.Errorf("%s: %+v, before %+v", name, now, before[name])
		}
	}
	return nil
}

// onlyTheProxysFailed looks at what has failed until now.
func (l *load) onlyTheProxysFailed(while string) {
	l.T.Helper()
	failed := 0
	for name, c := range l.Counts(l.caller, "counts") {
		switch {
		case plain(name) && c.Failed != 0:
			l.T.Errorf("%s: %s has nothing to do with the proxy, and %d of %d failed: %v", while, name, c.Failed, c.Sent, c.Errors)
		case time.Duration(c.SlowMS)*time.Millisecond > atOnce:
			l.T.Errorf("%s: %s: a request took %d ms to fail: %v", while, name, c.SlowMS, c.Errors)
		}
		failed += c.Failed
	}
	l.T.Logf("%s: %d requests have failed", while, failed)
}
