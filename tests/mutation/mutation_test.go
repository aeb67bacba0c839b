// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/level"
	"github.com/weftmesh/weft/tests/sandbox"
)

// fault is one deliberate change, and the tests that must see it.
type fault struct {
	name     string
	file     string
	from, to string // from occurs exactly once in the file
	packages string // parted by spaces
	run      string // names of tests, parted by |
}

func faults() []fault {
	return slices.Concat(agentFaults(), kernelFaults(), betweenFaults(), requestFaults(), pairFaults())
}

// inKernel tells whether the kernel object must be made anew.
func (f fault) inKernel() bool { return strings.HasPrefix(f.file, "bpf/") }

const root = "../.."

// TestFaultsFitTheSources keeps the list true: what is to be changed is there
// once, and the tests that are to fail exist.
func TestFaultsFitTheSources(t *testing.T) {
	names := map[string]bool{}
	for _, f := range faults() {
		if names[f.name] {
			t.Errorf("two faults are called %q", f.name)
		}
		names[f.name] = true
		source, err := os.ReadFile(filepath.Join(root, f.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), f.from); n != 1 || f.from == f.to {
			t.Errorf("%q: %s has %d times %q", f.name, f.file, n, f.from)
		}
		for name := range strings.SplitSeq(f.run, "|") {
			if !hasTest(t, strings.Fields(f.packages), name) {
				t.Errorf("%q: no test %s in %s", f.name, name, f.packages)
			}
		}
	}
	if len(names) < 25 {
		t.Errorf("only %d faults", len(names))
	}
}

func hasTest(t *testing.T, packages []string, name string) bool {
	t.Helper()
	for _, pkg := range packages {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no tests: %v", pkg, err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(source), "\nfunc "+name+"(") {
				return true
			}
		}
	}
	return false
}

// TestEveryFaultIsCaught tries all faults in a long run; else one, which shows
// that the machinery works. WEFT_FAULTS is an expression for the names of those to
// try.
func TestEveryFaultIsCaught(t *testing.T) {
	todo := agentFaults()[:1]
	if level.Long() {
		todo = faults()
	}
	if only := os.Getenv("WEFT_FAULTS"); only != "" {
		todo = nil
		for _, f := range faults() {
			if regexp.MustCompile(only).MatchString(f.name) {
				todo = append(todo, f)
			}
		}
		if len(todo) == 0 {
			t.Fatalf("no fault is called %s", only)
		}
	}
	tree := newTree(t, todo)
	tree.calm(t, todo)
	for _, f := range todo {
		t.Run(f.name, func(t *testing.T) { tree.try(t, f) })
	}
}

// tree is a copy of the repository in which faults are put.
type tree struct {
	dir    string
	object []byte // the kernel object without a fault
}

const objectFile = "pkg/datapath/weftbpf/bpf_bpfel.o"

// newTree copies the repository's files. Kernel faults need the generator that
// `make tools` builds, and some tests the stock Envoy.
func newTree(t *testing.T, todo []fault) *tree {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("listing files: %v", err)
	}
	tr := &tree{dir: t.TempDir()}
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSuffix(name, "\n")
		data, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, not yet committed
		}
		must(t, err)
		to := filepath.Join(tr.dir, name)
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(t, os.WriteFile(to, data, 0o644))
	}
	tr.object, err = os.ReadFile(filepath.Join(tr.dir, objectFile))
	must(t, err)
	if slices.ContainsFunc(todo, func(f fault) bool { return f.inKernel() || f.packages == proxyTests }) {
		bin, err := sandbox.BinDir()
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(tr.dir, "build"), 0o755))
		for _, made := range []string{"tools", "bin", "envoy"} {
			must(t, os.Symlink(filepath.Join(filepath.Dir(bin), made), filepath.Join(tr.dir, "build", made)))
		}
	}
	return tr
}

// calm runs the tests without a fault: they must pass, or their failures would
// prove nothing.
func (tr *tree) calm(t *testing.T, todo []fault) {
	t.Helper()
	runs := map[string][]string{}
	for _, f := range todo {
		runs[f.packages] = append(runs[f.packages], f.run)
	}
	for packages, run := range runs {
		if out, err := tr.test(t, packages, strings.Join(run, "|")); err != nil {
			t.Fatalf("%s fails without a fault: %v\n%s", packages, err, out)
		}
	}
}

func (tr *tree) test(t *testing.T, packages, run string) (string, error) {
	args := append([]string{"test", "-count=1", "-timeout=10m", "-run=^(" + run + ")$"}, strings.Fields(packages)...)
	return tr.command(t, "go", args...)
}

func (tr *tree) command(t *testing.T, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = tr.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, level.LongEnv+"=") { // the short tests are to catch it
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// try puts the fault in, runs its tests, and takes it out again.
func (tr *tree) try(t *testing.T, f fault) {
	path := filepath.Join(tr.dir, f.file)
	source, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.Replace(string(source), f.from, f.to, 1)), 0o644))
	defer func() {
		must(t, os.WriteFile(path, source, 0o644))
		must(t, os.WriteFile(filepath.Join(tr.dir, objectFile), tr.object, 0o644))
	}()
	if f.inKernel() {
		if out, err := tr.command(t, "go", "generate", "./pkg/datapath/weftbpf"); err != nil {
			t.Fatalf("it does not compile: %v\n%s", err, out)
		}
	}
	out, err := tr.test(t, f.packages, f.run)
	switch {
	case err == nil:
		t.Errorf("it survived: %s passes in %s", f.run, f.packages)
	case !strings.Contains(out, "--- FAIL: ") || strings.Contains(out, "build failed") || strings.Contains(out, "load program"):
		t.Errorf("it was not put to the test: %v\n%s", err, out)
	}
	for _, m := range regexp.MustCompile(`(?m)^--- FAIL: (\S+)`).FindAllStringSubmatch(out, -1) {
		t.Logf("caught by %s", m[1])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
