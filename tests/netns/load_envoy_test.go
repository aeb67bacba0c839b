// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// TestEnvoyIsKilled: what needs no proxy does not notice; what does is refused at
// once until Envoy is back, which it is by itself, also without the agent.
func TestEnvoyIsKilled(t *testing.T) {
	n := newLoaded(t)
	n.write("web.yaml", fmt.Sprintf(loadPolicy, "/a"))
	n.envoyReady()
	for _, away := range []bool{false, true} {
		when := fmt.Sprintf("agent away: %t", away)
		if away {
			ok(t, n.agent.Kill())
		}
		loops := map[string]*sandbox.Loop{}
		onBoth(t, func(t *testing.T, family int) {
			for kind, fresh := range map[string]bool{"kept": false, "new": true} {
				loops[kind+strconv.Itoa(family)] = sandbox.StartLoop(sandbox.LoopConfig{NS: n.a.NS, Network: "tcp",
					Addr: hostPort(addrs(n.web)[family], 9090), Every: 5 * time.Millisecond, Timeout: requestTimeout, Fresh: fresh})
			}
			asks(t, browser(t, n.a.NS), n.web, family, denied, http.StatusForbidden)
		})
		before := dropped(t)
		supervisor, envoy := holderPID(t), envoyPID(t)
		// Held, so that there is a time without Envoy in which all can be tried.
		ok(t, unix.Kill(supervisor, unix.SIGSTOP))
		ok(t, unix.Kill(envoy, unix.SIGKILL))
		ok(t, sandbox.Eventually(t.Context(), soon, "Envoy has gone", func() error { return n.isRefused(0) }))
		onBoth(t, func(t *testing.T, family int) {
			for range 20 {
				if err := n.isRefused(family); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
		})
		told := since(dropped(t), before)
		if notReady := told[model.Reason(weftbpf.BpfWeftReasonWEFT_DROP_PROXY_NOT_READY)]; notReady < 40 || len(told) != 1 {
			t.Errorf("%s: counted were %v, want 40 calls or more for which the proxy was not ready", when, told)
		}
		ok(t, unix.Kill(supervisor, unix.SIGCONT))
		onBoth(t, func(t *testing.T, family int) {
			post := n.poster(hostPort(addrs(n.web)[family], 8080), "/a", http.StatusOK, false)
			ok(t, sandbox.Eventually(t.Context(), soon, "Envoy is back, "+when, func() error { return post(0) }))
			asks(t, browser(t, n.a.NS), n.web, family, denied, http.StatusForbidden)
		})
		for name, l := range loops {
			if r := l.Stop(); len(r.Failed) > 0 || r.Done == 0 || r.Gap > longestStall {
				t.Errorf("%s: %s without a proxy: %+v", when, name, r)
			}
		}
	}
	n.startAgent("weft-agent")
	n.envoyReady()
	onBoth(t, func(t *testing.T, family int) {
		asks(t, browser(t, n.a.NS), n.web, family, denied, http.StatusForbidden)
	})
}

// isRefused calls where a proxy is needed, and fails unless it is told at once that
// there is none.
func (n *loaded) isRefused(family int) error {
	start := time.Now()
	conn, err := n.a.NS.Dial("tcp", hostPort(addrs(n.web)[family], 8080), soon)
	if err == nil {
		_ = conn.Close()
	}
	if took := time.Since(start); !errors.Is(err, unix.ECONNREFUSED) || took > answer {
		return fmt.Errorf("a call to %v: %w after %s, want a refusal at once", addrs(n.web)[family], errors.Join(errors.New("not as wanted"), err), took)
	}
	return nil
}

// holderPID is the supervisor of Envoy.
func holderPID(t *testing.T) int {
	t.Helper()
	pid, err := sandbox.PIDIn("/run/weft/weft-envoy.lock")
	ok(t, err)
	return pid
}

// since is what was counted meanwhile.
func since(now, before map[model.Reason]uint64) map[model.Reason]uint64 {
	out := map[model.Reason]uint64{}
	for reason, n := range now {
		if n != before[reason] {
			out[reason] = n - before[reason]
		}
	}
	return out
}
