// SPDX-License-Identifier: Apache-2.0

// Command check is what stands behind `make check`: it generates everything
// anew in a copy and compares, formats, lints, cross-builds and runs the rules
// of the house. With -record it notes which compiler made the committed kernel
// objects. The Makefile has installed what it calls.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	record := flag.Bool("record", false, "only note the compiler that is installed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *record {
		err = recordToolchain(ctx)
	} else {
		err = checkAll(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

// checkAll runs every step, also after one that failed, and names those that did.
func checkAll(ctx context.Context) error {
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"generated files are what the sources give", generatedCurrent},
		{"gofmt", gofmt},
		{"clang-format", clangFormat},
		{"go vet", inModules("go", "vet", "./...")},
		{"staticcheck", inModules("build/tools/staticcheck", "./...")},
		{"build for arm64", crossBuild},
		{"chart", func(ctx context.Context) error {
			return runIn(ctx, "tools/helm", nil, "go", "test", "-count=1", "./...")
		}},
		{"rules of the house", command("go", "test", "-count=1", "./tests/repo/...")},
	}
	var failed []string
	for _, s := range steps {
		begin := time.Now()
		err := s.run(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		word := "ok  "
		if err != nil {
			word = "FAIL"
			failed = append(failed, s.name)
			fmt.Fprintln(os.Stderr, err)
		}
		fmt.Printf("%s %6.1fs  %s\n", word, time.Since(begin).Seconds(), s.name)
	}
	if len(failed) > 0 {
		return errors.New("failed: " + strings.Join(failed, "; "))
	}
	return nil
}

func command(name string, args ...string) func(context.Context) error {
	return func(ctx context.Context) error { return runIn(ctx, ".", nil, name, args...) }
}

// modules are those with code of the house: the product's, and what stays out of its go.mod.
func modules() []string { return []string{".", "daemonset/images", "tests/cluster", "tools/helm"} }

// inModules runs a command, which may be a path from here, in each module.
func inModules(name string, args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		if strings.Contains(name, "/") {
			path, err := filepath.Abs(name)
			if err != nil {
				return err
			}
			name = path
		}
		var err error
		for _, dir := range modules() {
			err = errors.Join(err, runIn(ctx, dir, nil, name, args...))
		}
		return err
	}
}

// runIn runs a command whose output is shown only if it fails.
func runIn(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func gofmt(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("finding gofmt: %w", err)
	}
	files, err := sources(ctx, ".go")
	if err != nil {
		return err
	}
	tool := filepath.Join(strings.TrimSpace(string(root)), "bin", "gofmt")
	out, err := exec.CommandContext(ctx, tool, append([]string{"-l"}, files...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("not formatted (gofmt -w):\n%s", out)
	}
	return nil
}

func clangFormat(ctx context.Context) error {
	files, err := sources(ctx, ".c", ".h")
	if err != nil {
		return err
	}
	return runIn(ctx, ".", nil, "clang-format-19", append([]string{"--dry-run", "-Werror"}, files...)...)
}

// crossBuild compiles everything, tests too, for the other architecture.
func crossBuild(ctx context.Context) error {
	env := []string{"GOARCH=arm64", "CGO_ENABLED=0"}
	var err error
	for _, dir := range modules() {
		err = errors.Join(err, runIn(ctx, dir, env, "go", "build", "./..."), runIn(ctx, dir, env, "go", "vet", "./..."))
	}
	return err
}

// sources lists the repository's files with one of the endings, those not yet
// added included.
func sources(ctx context.Context, ext ...string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	var files []string
	for name := range strings.Lines(string(out)) {
		name = strings.TrimSuffix(name, "\n")
		if _, err := os.Stat(name); err != nil {
			continue // removed, not yet committed
		}
		for _, e := range ext {
			if strings.HasSuffix(name, e) {
				files = append(files, name)
				break
			}
		}
	}
	return files, nil
}
