// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/envoy/bootstrap"
	"github.com/weftmesh/weft/envoy/supervise"
	"github.com/weftmesh/weft/envoy/xds"
	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// newSupervised is a rig whose Envoy weft-envoy runs, in a control group.
func newSupervised(t *testing.T, backend netip.AddrPort, rulesets ...model.Ruleset) (*rig, supervise.Config) {
	return newSupervisedOf(t, 1<<30, backend, rulesets...)
}

// newSupervisedOf is one whose Envoy may have so much memory.
func newSupervisedOf(t *testing.T, heap uint64, backend netip.AddrPort, rulesets ...model.Ruleset) (*rig, supervise.Config) {
	r := &rig{t: t, dir: t.TempDir(), options: xds.Options{Backend: backend}, events: &events{}, log: &sandbox.Output{}}
	binary, err := sandbox.Envoy()
	ok(t, err)
	mount, err := cgroup.FindMount()
	ok(t, err)
	own := filepath.Join(r.dir, "envoy") // of the test's own, to be replaced
	ok(t, os.Symlink(binary, own))
	cfg := supervise.Config{Binary: own, Cgroup: filepath.Join(mount, "weft-envoy-"+strconv.Itoa(os.Getpid())),
		Bootstrap:   bootstrap.Config{Node: "test", RunDir: r.dir, MaxHeapBytes: heap, MaxConnections: 10000},
		Concurrency: 2, Drain: 3 * time.Second}
	t.Cleanup(func() {
		for _, pid := range inGroup(t, cfg) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		// A process that was just killed may take a moment to leave.
		within(t, "the control group is empty", func() bool { return os.Remove(cfg.Cgroup) == nil })
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(r.dir, "envoy.log"))
			t.Logf("weft-envoy and Envoy:\n%s", text)
		}
	})
	r.startAgent()
	launch(t, cfg)
	within(t, "proxy connects", func() bool { return r.xds.Connected() > 0 })
	r.update(rulesets...)
	return r, cfg
}

func launch(t *testing.T, cfg supervise.Config) {
	t.Helper()
	bin, err := sandbox.BinDir()
	ok(t, err)
	ctx, stop := context.WithTimeout(t.Context(), soon)
	defer stop()
	ok(t, supervise.Launch(ctx, filepath.Join(bin, "weft-envoy"), cfg))
}

func inGroup(t *testing.T, cfg supervise.Config) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(cfg.Cgroup, "cgroup.procs"))
	ok(t, err)
	for f := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(f)
		ok(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// processes of the group whose name is this.
func processes(t *testing.T, cfg supervise.Config, name string) (pids []int) {
	for _, pid := range inGroup(t, cfg) {
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(comm)) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

func one(t *testing.T, pids []int) int {
	t.Helper()
	if len(pids) != 1 {
		t.Fatalf("%d processes, want one: %v", len(pids), pids)
	}
	return pids[0]
}

// get asks on a connection of its own; 0 if there was no answer.
func get(id model.RulesetID, path string) int {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr(id) + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

// TestEnvoyComesBack also where nobody but weft-envoy is there to tell it what was in
// force, and goes to the agent when that is back.
func TestEnvoyComesBack(t *testing.T) {
	r, cfg := newSupervised(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	for _, away := range []bool{false, true} {
		if away {
			r.agent.Stop()
		}
		old := one(t, processes(t, cfg, "envoy"))
		killed := time.Now()
		ok(t, syscall.Kill(old, syscall.SIGKILL))
		within(t, "the process is gone", func() bool { return !slices.Contains(inGroup(t, cfg), old) })
		within(t, fmt.Sprintf("requests pass again, agent away: %v", away), func() bool { return get(1, "/a") == 200 })
		t.Logf("agent away: %v: requests pass again after %v", away, time.Since(killed).Round(time.Millisecond))
		if got := get(1, "/b"); got != 403 {
			t.Errorf("agent away: %v: what is denied gives %d", away, got)
		}
	}
	r.startAgent()
	within(t, "proxy comes back to the agent", func() bool { return r.xds.Connected() > 0 })
	r.update(httpRules(1, model.HTTPRule{Path: "/b"}))
	if a, b := get(1, "/a"), get(1, "/b"); a != 403 || b != 200 {
		t.Errorf("after a change: %d, %d", a, b)
	}
}

// TestAnEnvoyThatDoesNotStayIsTold, and whatever is put in its place, the one that serves goes on.
func TestAnEnvoyThatDoesNotStayIsTold(t *testing.T) {
	_, cfg := newSupervised(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	envoy, err := os.Readlink(cfg.Binary)
	ok(t, err)
	put := func(binary string) {
		t.Helper()
		ok(t, os.Symlink(binary, cfg.Binary+".new"))
		ok(t, os.Rename(cfg.Binary+".new", cfg.Binary))
	}
	ok(t, supervise.Trouble(cfg))
	put("/bin/false")
	within(t, "it is told", func() bool {
		err := supervise.Trouble(cfg)
		return err != nil && strings.Contains(err.Error(), "times in a row it ended") && strings.Contains(err.Error(), "envoy.log")
	})
	if got := get(1, "/a"); got != 200 {
		t.Errorf("the one before does not serve on: %d", got)
	}
	put(envoy)
	within(t, "the trouble ends", func() bool { return supervise.Trouble(cfg) == nil })
	if got := get(1, "/a"); got != 200 {
		t.Errorf("afterwards: %d", got)
	}
}

// TestAnEnvoyWhoseMemoryIsUsedUpIsReplaced: what it keeps of what expressions have matched
// it does not give back.
func TestAnEnvoyWhoseMemoryIsUsedUpIsReplaced(t *testing.T) {
	var rules []model.HTTPRule
	for i := range 100 {
		rules = append(rules, model.HTTPRule{Path: fmt.Sprintf("/.*a.{800}%d", i)})
	}
	_, cfg := newSupervisedOf(t, 100<<20, backend(t, http.HandlerFunc(echo)), append([]model.Ruleset{httpRules(1, model.HTTPRule{Path: "/a"})}, httpRules(2, rules...))...)
	if got := get(1, "/a"); got != 200 {
		t.Fatalf("before: %d", got)
	}
	old := one(t, processes(t, cfg, "envoy"))
	random := rand.New(rand.NewPCG(1, 2))
	path := []byte("/")
	for range 3000 {
		path = append(path, "ab"[random.IntN(2)])
	}
	within(t, "its memory is used up", func() bool {
		get(2, string(path))
		random.Shuffle(len(path)-1, func(i, j int) { path[i+1], path[j+1] = path[j+1], path[i+1] })
		err := supervise.Trouble(cfg)
		return err != nil && strings.Contains(err.Error(), "memory of 100 MB is used up")
	})
	// Each question takes 5 s while nothing is accepted, so there is time for both.
	within(t, "another one is started", func() bool { return !slices.Equal(processes(t, cfg, "envoy"), []int{old}) })
	within(t, "another one takes over", func() bool { return get(1, "/a") == 200 && supervise.Trouble(cfg) == nil })
}

// TestReplacingEnvoyRefusesNothing, by another binary and by another supervisor.
func TestReplacingEnvoyRefusesNothing(t *testing.T) {
	r, cfg := newSupervised(t, backend(t, http.HandlerFunc(echo)), httpRules(1, model.HTTPRule{Path: "/a"}))
	stop, done := make(chan struct{}), make(chan []string, 2)
	for _, keep := range []bool{false, true} {
		go func() { done <- askOn(1, keep, stop) }() // until stop
	}
	replaced := func(what string, old int) int {
		t.Helper()
		within(t, what, func() bool {
			now := processes(t, cfg, "envoy")
			return len(now) == 1 && now[0] != old
		})
		return one(t, processes(t, cfg, "envoy"))
	}
	envoy := one(t, processes(t, cfg, "envoy"))
	target, err := os.Readlink(cfg.Binary)
	ok(t, err)
	copied := filepath.Join(r.dir, "envoy-2")
	copyFile(t, target, copied)
	ok(t, os.Symlink(copied, cfg.Binary+".new"))
	ok(t, os.Rename(cfg.Binary+".new", cfg.Binary))
	envoy = replaced("another binary", envoy)

	supervisor := one(t, processes(t, cfg, "weft-envoy"))
	launch(t, cfg)
	if now := one(t, processes(t, cfg, "weft-envoy")); now != supervisor {
		t.Error("a supervisor that runs as wanted was replaced")
	}
	cfg.Bootstrap.MaxConnections++
	launch(t, cfg)
	envoy = replaced("another supervisor", envoy)

	ok(t, syscall.Kill(one(t, processes(t, cfg, "weft-envoy")), syscall.SIGKILL))
	within(t, "the supervisor is gone", func() bool { return len(processes(t, cfg, "weft-envoy")) == 0 })
	within(t, "the next supervisor finds Envoy", func() bool {
		launch(t, cfg)
		text, err := os.ReadFile(filepath.Join(r.dir, "envoy.log"))
		return err == nil && strings.Count(string(text), "an Envoy runs, and stays") == 2
	})
	within(t, "one supervisor is left", func() bool { return len(processes(t, cfg, "weft-envoy")) == 1 })
	supervisor = one(t, processes(t, cfg, "weft-envoy"))
	ok(t, syscall.Kill(supervisor, syscall.SIGHUP))
	envoy = replaced("asked to", envoy)
	close(stop)
	for range 2 {
		if bad := <-done; len(bad) > 0 {
			t.Errorf("%d requests failed: %v", len(bad), bad)
		}
	}
	if now := one(t, processes(t, cfg, "envoy")); now != envoy {
		t.Error("Envoy was replaced for nothing")
	}
	ok(t, syscall.Kill(supervisor, syscall.SIGTERM))
	within(t, "all ends", func() bool { return len(inGroup(t, cfg)) == 0 })
	if c, err := net.Dial("tcp", addr(1)); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
}

// askOn asks one request after another until stop, on connections that are kept or
// not, and gives what went wrong.
func askOn(id model.RulesetID, keep bool, stop <-chan struct{}) (bad []string) {
	client := &http.Client{Timeout: soon, Transport: &http.Transport{DisableKeepAlives: !keep}}
	for {
		select {
		case <-stop:
			return bad
		default:
		}
		resp, err := client.Post("http://"+addr(id)+"/a", "text/plain", strings.NewReader("body"))
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			bad = append(bad, fmt.Sprint(resp.Status, err))
		}
		_ = resp.Body.Close()
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	ok(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	ok(t, err)
	_, err = io.Copy(out, in)
	ok(t, err)
	ok(t, out.Close())
}
