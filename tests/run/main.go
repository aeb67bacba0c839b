// SPDX-License-Identifier: Apache-2.0

// Command run is the test runner behind `make test` and `make test-long`. It
// runs every package's tests with fixed or printed seeds, prints one line a
// package and failures in full, and ends with one line "N passed, N failed". A
// test may be skipped only for a kernel feature that its message names after
// "kernel: "; any other skip is a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weftmesh/weft/tests/level"
)

func main() {
	long := flag.Bool("long", false, "full numbers and a random seed")
	seed := flag.Uint64("seed", 0, "seed of random choices; 0: 1, or with -long a random one")
	limit := flag.Duration("limit", 20*time.Minute, "longest time for everything; ten minutes is the aim")
	fuzz := flag.Duration("fuzz", time.Minute, "with -long, time for each fuzz target; 0: its seeds only")
	tags := flag.String("tags", "", "build tags, as go test takes them")
	module := flag.String("module", "", "folder of another module, whose tests all run last")
	flag.Parse()
	if *seed == 0 {
		*seed = 1
		if *long {
			*seed = rand.Uint64() >> 1 //nolint:gosec // a seed, not a secret
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	patterns := flag.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	if err := run(ctx, options{long: *long, seed: *seed, limit: *limit, fuzz: *fuzz, tags: *tags, module: *module, patterns: patterns}); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintln(os.Stderr, "run:", err)
		}
		os.Exit(1)
	}
}

type options struct {
	long     bool
	seed     uint64
	limit    time.Duration
	fuzz     time.Duration
	tags     string
	module   string
	patterns []string
}

// errFailed says that the summary, already printed, has failures.
var errFailed = errors.New("tests failed")

func run(ctx context.Context, o options) error {
	groups, err := plan(ctx, o, ".", o.patterns)
	if err != nil {
		return err
	}
	if o.module != "" {
		more, err := plan(ctx, o, o.module, []string{"./..."})
		if err != nil {
			return err
		}
		groups = append(groups, more...)
	}
	if o.long {
		fmt.Printf("seed %d (again with: go run ./tests/run -long -seed %d)\n", o.seed, o.seed)
	}
	t := newTally(os.Stdout)
	for _, g := range groups {
		if err := testGroup(ctx, o, g, t); err != nil {
			return err
		}
	}
	if o.long && o.fuzz > 0 {
		if err := fuzz(ctx, o, t); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		t.fail(fmt.Sprintf("the run was ended: %v (limit %s)", context.Cause(ctx), o.limit))
	}
	if !t.summary() {
		return errFailed
	}
	return nil
}

// group is a set of packages that run with the same flags.
type group struct {
	dir      string // of their module
	packages []string
	serial   bool // one package at a time: they measure time or load the machine
	rapid    bool // they take the flags of property tests
}

// plan sorts packages with tests into groups: quick ones side by side, those
// with property tests with their seed, and those in a sandbox or cluster one by one.
func plan(ctx context.Context, o options, dir string, patterns []string) ([]group, error) {
	const form = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{join .TestImports ","}},{{join .XTestImports ","}}{{end}}`
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-tags=" + o.tags, "-f", form}, patterns...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	plain, props, boxed := group{dir: dir}, group{dir: dir, rapid: true}, group{dir: dir, serial: true}
	boxedProps := group{dir: dir, serial: true, rapid: true}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		rapid := strings.Contains(imports, "pgregory.net/rapid")
		sandboxed := strings.Contains(imports, "weft/tests/sandbox") || strings.Contains(imports, "weft/tests/cluster") ||
			strings.Contains(imports, "weft/tests/apiserver")
		g := &plain
		switch {
		case sandboxed && rapid:
			g = &boxedProps
		case sandboxed:
			g = &boxed
		case rapid:
			g = &props
		}
		if pkg != "" {
			g.packages = append(g.packages, pkg)
		}
	}
	return []group{plain, props, boxed, boxedProps}, nil
}

func testGroup(ctx context.Context, o options, g group, t *tally) error {
	if len(g.packages) == 0 || ctx.Err() != nil {
		return nil
	}
	args := []string{"test", "-json", "-count=1", "-tags=" + o.tags, "-timeout=" + o.limit.String()}
	if g.serial {
		args = append(args, "-p=1")
	}
	args = append(args, g.packages...)
	if g.rapid {
		args = append(args, "-rapid.seed="+strconv.FormatUint(o.seed, 10), "-rapid.nofailfile")
		if o.long {
			args = append(args, "-rapid.checks=2000")
		}
	}
	return goTest(ctx, o, g.dir, args, t)
}

// goTest runs `go test -json` and adds what it tells to the tally.
func goTest(ctx context.Context, o options, dir string, args []string, t *tally) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// A group of its own, so that ending the run ends every test binary too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), level.SeedEnv+"="+strconv.FormatUint(o.seed, 10))
	if o.long {
		cmd.Env = append(cmd.Env, level.LongEnv+"=1")
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting go test: %w", err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting go test: %w", err)
	}
	readErr := t.read(stdout)
	waitErr := cmd.Wait()
	if readErr != nil {
		return fmt.Errorf("reading the results: %w", readErr)
	}
	if waitErr != nil && t.failed == 0 {
		t.fail(fmt.Sprintf("go test: %v", waitErr))
	}
	return nil
}
