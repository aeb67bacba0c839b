// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// target is a fuzz target: its seeds are among the usual tests, and in a long run
// it is given inputs of its own making for a while.
type target struct{ pkg, name string }

// fuzzTargets finds them in the packages' test files.
func fuzzTargets(ctx context.Context, patterns []string) ([]target, error) {
	const form = `{{.ImportPath}} {{.Dir}} {{join .TestGoFiles ","}},{{join .XTestGoFiles ","}}`
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-f", form}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing test files: %w", err)
	}
	var found []target
	for line := range strings.Lines(string(out)) {
		pkg, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		dir, files, _ := strings.Cut(rest, " ")
		for file := range strings.SplitSeq(files, ",") {
			if file == "" {
				continue
			}
			source, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return nil, fmt.Errorf("looking for fuzz targets: %w", err)
			}
			for _, name := range targetsIn(source) {
				found = append(found, target{pkg, name})
			}
		}
	}
	return found, nil
}

func targetsIn(source []byte) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`).FindAllSubmatch(source, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// fuzz runs each target for the time that one gets. What it finds fails the run,
// and is left in the package's testdata as a seed.
func fuzz(ctx context.Context, o options, t *tally) error {
	targets, err := fuzzTargets(ctx, o.patterns)
	if err != nil {
		return err
	}
	for _, f := range targets {
		if ctx.Err() != nil {
			return nil
		}
		fmt.Printf("fuzzing %s %s for %s\n", short(f.pkg), f.name, o.fuzz)
		args := []string{"test", "-json", "-count=1", "-run=^$", "-fuzz=^" + f.name + "$", "-fuzztime=" + o.fuzz.String(),
			"-fuzzminimizetime=10x", "-timeout=" + o.limit.String(), f.pkg}
		failed := t.failed
		if err := goTest(ctx, o, ".", args, t); err != nil {
			return err
		}
		if t.failed == failed {
			t.passed++ // a target that ends well is no test of its own for `go test`
		}
	}
	return nil
}
