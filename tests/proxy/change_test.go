// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/envoy/server"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/model"
)

// TestAChangeReachesTheNextRequest of a connection that is open, and closes it not.
func TestAChangeReachesTheNextRequest(t *testing.T) {
	r := newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	reused := false
	ask := func(path string) int {
		req := request(t, 1, "GET "+path)
		trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
		got, _ := call(t, req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		return got
	}
	for i, step := range []struct {
		rules model.Ruleset
		a, b  int
	}{
		{httpRules(1, model.HTTPRule{Path: "/a"}), 200, 403},
		{httpRules(1, model.HTTPRule{Path: "/b"}), 403, 200},
		{httpRules(1, model.HTTPRule{Path: "/a("}), 403, 403}, // the only rule has a fault
		{model.Ruleset{ID: 1, Open: true, Rules: httpRules(1, model.HTTPRule{Path: "/a"}).Rules}, 200, 200},
		{model.Ruleset{ID: 1, Audit: true, Rules: httpRules(1, model.HTTPRule{Path: "/a"}).Rules}, 200, 200},
		{model.Ruleset{ID: 1}, 403, 403},
	} {
		r.update(step.rules)
		if a, b := ask("/a"), ask("/b"); a != step.a || b != step.b {
			t.Errorf("step %d: %d, %d, want %d, %d", i, a, b, step.a, step.b)
		}
		if i > 0 && !reused {
			t.Errorf("step %d: the connection was closed", i)
		}
	}
}

// TestWhatIsRefusedHoldsNothingUp: a rule that only Envoy finds wrong is put to its
// policy, keeps its last good state, and all others go on.
func TestWhatIsRefusedHoldsNothingUp(t *testing.T) {
	huge := "(?:a{1,60}b{1,60})" // not to be expected, so for an Envoy that takes less than rules may have
	good := httpRules(2, model.HTTPRule{Path: "/b"})
	r := (&rig{t: t, dir: t.TempDir(), options: xds.Options{Backend: backend(t, http.HandlerFunc(echo))}, events: &events{}, program: 100}).
		start(httpRules(1, model.HTTPRule{Path: "/a"}), good)
	bad := httpRules(1, model.HTTPRule{Path: "/a" + huge})
	fresh := httpRules(3, model.HTTPRule{Path: "/" + huge})
	r.update(bad, httpRules(2, model.HTTPRule{Path: "/c"}), fresh, httpRules(4, model.HTTPRule{Path: "/d"}))
	for id, want := range map[model.RulesetID]string{1: "/a", 2: "/c", 4: "/d"} {
		if got, _ := call(t, request(t, id, "GET "+want)); got != 200 {
			t.Errorf("ruleset %d: %s: %d", id, want, got)
		}
	}
	faults := r.xds.FaultList()
	if len(faults) != 2 || faults[0].Ruleset != 1 || faults[1].Ruleset != 3 || faults[0].Policy != policy("api") ||
		!strings.Contains(faults[0].Text, "regex") {
		t.Errorf("faults %v", faults)
	}
	standing := make(map[string]server.Standing)
	for _, st := range r.xds.Status() {
		standing[st.Type+" "+st.Name] = st.Standing
	}
	if standing["route ruleset-1"] != server.Refused || standing["route ruleset-2"] != server.InForce || standing["listener ruleset-3"] != server.InForce {
		t.Errorf("standing %v", standing)
	}
	r.update(httpRules(1, model.HTTPRule{Path: "/e"}), good)
	if got, _ := call(t, request(t, 1, "GET /e")); got != 200 || len(r.xds.FaultList()) > 0 {
		t.Errorf("after it was put right: %d, %v", got, r.xds.FaultList())
	}
}

// TestNothingIsSentTwice: not by an agent that starts again, nor for a change of
// nothing.
func TestNothingIsSentTwice(t *testing.T) {
	rulesets := []model.Ruleset{httpRules(1, model.HTTPRule{Path: "/a"}), httpRules(2, model.HTTPRule{Path: "/b"})}
	r := newRig(t, backend(t, http.HandlerFunc(echo)), rulesets...)
	if sent := r.counter.take(); !slices.Contains(sent, "ruleset-1") {
		t.Fatalf("sent at first: %v", sent)
	}
	r.update(rulesets...)
	if sent := r.counter.take(); len(sent) > 0 {
		t.Errorf("sent for no change: %v", sent)
	}
	r.agent.Stop()
	if got, _ := call(t, request(t, 1, "GET /a")); got != 200 {
		t.Errorf("without the agent: %d", got)
	}
	r.startAgent()
	within(t, "proxy comes back", func() bool { return r.xds.Connected() > 0 })
	r.update(rulesets...)
	if sent := r.counter.take(); len(sent) > 0 {
		t.Errorf("sent by an agent that started again: %v", sent)
	}
	r.update(httpRules(1, model.HTTPRule{Path: "/a"}), httpRules(2, model.HTTPRule{Path: "/c"}))
	if sent := r.counter.take(); !slices.Equal(sent, []string{"ruleset-2"}) {
		t.Errorf("sent for a change of one rule: %v", sent)
	}
	r.update(rulesets[0])
	within(t, "the listener is gone", func() bool { return get(2, "/c") == 0 })
}

// TestWaitingEndsWhereNobodyListens.
func TestWaitingEndsWhereNobodyListens(t *testing.T) {
	r := newRig(t, backend(t, http.HandlerFunc(echo)), httpRules(1))
	ok(t, r.envoy.Process.Signal(syscall.SIGKILL))
	within(t, "proxy is gone", func() bool { return r.xds.Connected() == 0 })
	r.xds.Update(model.Rulesets{Revision: 99, List: []model.Ruleset{httpRules(1)}})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := r.xds.WaitAcknowledged(ctx, 99); err != nil || r.xds.Acknowledged() >= 99 {
		t.Errorf("waiting: %v, acknowledged %d", err, r.xds.Acknowledged())
	}
	r.xds.Update(model.Rulesets{Revision: 100})
	if r.xds.Acknowledged() != 100 {
		t.Error("nothing to enforce needs no proxy, and is not acknowledged")
	}
}
