// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/envoy/bootstrap"
)

func config(t *testing.T) Config {
	t.Helper()
	return Config{Binary: "/envoy", Concurrency: 2, Drain: 30 * time.Second,
		Bootstrap: bootstrap.Config{Node: "n", RunDir: t.TempDir(), MaxHeapBytes: 1, MaxConnections: 1}}
}

func TestOneSupervisorAFolder(t *testing.T) {
	cfg := config(t)
	if pid, _, err := holder(cfg); pid != 0 || err != nil {
		t.Errorf("before: %d, %v", pid, err)
	}
	lock, err := acquire(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(cfg); !errors.Is(err, ErrRuns) {
		t.Errorf("a second one: %v", err)
	}
	pid, is, err := holder(cfg)
	if pid != os.Getpid() || !slices.Equal(is, identity(os.Args[1:])) || err != nil {
		t.Errorf("holder %d %v, %v", pid, is, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if pid, _, err := holder(cfg); pid != 0 || err != nil {
		t.Errorf("after: %d, %v", pid, err)
	}
}

func TestArguments(t *testing.T) {
	cfg := config(t)
	first, err := arguments(cfg, 0)
	if err != nil || !slices.Contains(first, "--use-dynamic-base-id") {
		t.Errorf("the first: %v, %v", first, err)
	}
	if _, err := arguments(cfg, 1); err == nil {
		t.Error("a second one without a number to find the first by")
	}
	if err := os.WriteFile(cfg.file(baseFile), []byte("77\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := arguments(cfg, 1)
	if i := slices.Index(second, "--base-id"); err != nil || i < 0 || second[i+1] != "77" {
		t.Errorf("the second: %v, %v", second, err)
	}
}

// TestWhatRunsIsDescribed: anything that would run differently is told apart.
func TestWhatRunsIsDescribed(t *testing.T) {
	cfg := config(t)
	cfg.Binary = cfg.file("binary")
	if _, err := describe(cfg); err == nil {
		t.Error("a binary that is not there")
	}
	if err := os.WriteFile(cfg.Binary, []byte("a"), 0o755); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for name, change := range map[string]func(*Config){
		"as it is": func(*Config) {}, "threads": func(c *Config) { c.Concurrency++ }, "memory": func(c *Config) { c.Bootstrap.MaxHeapBytes++ },
		"drain": func(c *Config) { c.Drain *= 2 }, "binary": func(c *Config) { c.Binary = "/proc/self/exe" },
	} {
		other := cfg
		change(&other)
		d, err := describe(other)
		if err != nil || seen[d] != "" {
			t.Errorf("%s is as %s, %v", name, seen[d], err)
		}
		seen[d] = name
	}
	if again, err := describe(cfg); err != nil || seen[again] != "as it is" {
		t.Errorf("again: %s, %v", seen[again], err)
	}
}

func TestBackoffGrowsAndEnds(t *testing.T) {
	s := New(config(t), nil, nil)
	var got []time.Duration
	for range 9 {
		got = append(got, s.nextBackoff(0))
	}
	if got[0] != firstBackoff || got[1] != 2*firstBackoff || got[8] != lastBackoff {
		t.Errorf("%v", got)
	}
	if d := s.nextBackoff(settled); d != firstBackoff {
		t.Errorf("after a long life %v", d)
	}
}

// TestWhoServesAfterAnEnd: what the end of a process means depends on whether it had
// taken over.
func TestWhoServesAfterAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		live         bool
		before       bool
		ends         int
		again        bool
		newest, left int
	}{
		"the only one":                        {live: true, ends: 1, again: true, newest: -1},
		"one that was replaced":               {live: true, before: true, ends: 0, again: false, newest: 1, left: 1},
		"one that could not take over":        {before: true, ends: 1, again: true, newest: 0, left: 1},
		"one that never lived, with no other": {ends: 1, again: true, newest: -1},
	} {
		s := supervisor(t)
		s.children[1], s.newest, s.live = &child{epoch: 1}, 1, c.live
		if c.before {
			s.children[0] = &child{epoch: 0}
		}
		again := s.ended(exit{child: s.children[c.ends]})
		if again != c.again || s.newest != c.newest || len(s.children) != c.left {
			t.Errorf("%s: again %v, newest %d, %d left", name, again, s.newest, len(s.children))
		}
		if s.ended(exit{child: &child{epoch: 0}}) {
			t.Errorf("%s: the end of a stranger counts", name)
		}
	}
}

func supervisor(t *testing.T) *Supervisor {
	t.Helper()
	cfg := config(t)
	s := New(cfg, nil, slog.New(slog.DiscardHandler))
	var err error
	if s.output, err = openLog(cfg.file(logFile)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.output.Close() })
	return s
}

func TestLogsAreBounded(t *testing.T) {
	s := supervisor(t)
	if _, err := s.output.WriteString(strings.Repeat("x", maxLog+1)); err != nil {
		t.Fatal(err)
	}
	trimLog(s.output)
	if _, err := s.output.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(s.output.Name()); err != nil || string(text) != "new" {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestProcessesAreToldApart(t *testing.T) {
	if a, b := born(os.Getpid()), born(1); a == 0 || b == 0 || a == b {
		t.Errorf("born %d and %d", a, b)
	}
	if got := born(1 << 30); got != 0 {
		t.Errorf("one that is not there: %d", got)
	}
	s := supervisor(t)
	for name, text := range map[string]string{"none": "", "no number": "x", "another of that number": "1 1 0 x"} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(s.cfg.Bootstrap.RunDir, pidFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.adopt(t.Context()); err != nil || len(s.children) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherCommandsAreNoInnerOnes(t *testing.T) {
	for _, args := range [][]string{{"weft-envoy"}, {"weft-envoy", "--version"}, {"weft-envoy", "--node", "x", "y"}} {
		if inner, err := Inner(args); inner || err != nil {
			t.Errorf("%v: %v, %v", args, inner, err)
		}
	}
}
