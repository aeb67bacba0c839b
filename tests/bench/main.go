// SPDX-License-Identifier: Apache-2.0

// Command bench takes in what `go test -bench` printed, replaces its own rows in
// build/bench.jsonl and renders docs/BENCHMARKS.md from all rows.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const command = "make bench"

func main() {
	in := flag.String("in", "build/bench.txt", "output of go test -bench")
	rows := flag.String("out", "build/bench.jsonl", "rows, one a line")
	doc := flag.String("doc", "docs/BENCHMARKS.md", "document to render")
	flag.Parse()
	if err := run(*in, *rows, *doc); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// row is one figure. Ratio is value / baseline, Judge what the goal is about.
type row struct {
	Name     string    `json:"name"`
	Value    float64   `json:"value"`
	Unit     string    `json:"unit"`
	Baseline *baseline `json:"baseline"`
	Ratio    *float64  `json:"ratio"`
	Judge    string    `json:"judge"`
	Goal     string    `json:"goal"`
	Met      bool      `json:"met"`
	Command  string    `json:"command"`
}

type baseline struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func run(in, out, doc string) error {
	text, err := os.ReadFile(in)
	if err != nil {
		return fmt.Errorf("reading the results: %w", err)
	}
	fresh := parse(string(text))
	if len(fresh) == 0 {
		return fmt.Errorf("%s has no figure", in)
	}
	all, err := others(out)
	if err != nil {
		return err
	}
	all = append(all, fresh...)
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(a.Name+" "+a.Unit, b.Name+" "+b.Unit) })
	var lines strings.Builder
	for _, r := range all {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", r.Name, err)
		}
		lines.Write(append(line, '\n'))
	}
	if err := os.WriteFile(out, []byte(lines.String()), 0o644); err != nil {
		return fmt.Errorf("writing the rows: %w", err)
	}
	return os.WriteFile(doc, []byte(render(all)), 0o644)
}

// others are the rows that another command wrote.
func others(path string) ([]row, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the rows: %w", err)
	}
	defer func() { _ = f.Close() }()
	var rows []row
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		if r.Command != command {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

var (
	benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.+)$`)
	pkgLine   = regexp.MustCompile(`^pkg: github\.com/weftmesh/weft/(\S+)`)
)

// parse makes a row of each metric that is not 0 (a benchmark reports 0 for one
// that it does not measure).
func parse(text string) []row {
	var rows []row
	pkg := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := pkgLine.FindStringSubmatch(line); m != nil {
			pkg = m[1]
		}
		m := benchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil || value == 0 {
				continue
			}
			rows = append(rows, row{Name: pkg + "/" + m[1], Value: value, Unit: fields[i+1], Judge: "value", Met: true, Command: command})
		}
	}
	return rows
}

func render(rows []row) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nRendered by `make bench` from build/bench.jsonl. Absolute figures depend on the machine; ratios are what to compare.\n\n")
	b.WriteString("| figure | value | unit | against | ratio | goal | met | command |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		against, ratio, met := "", "", ""
		if r.Baseline != nil {
			against = fmt.Sprintf("%s: %.4g", r.Baseline.Name, r.Baseline.Value)
		}
		if r.Ratio != nil {
			ratio = fmt.Sprintf("%.3g", *r.Ratio)
		}
		if r.Goal != "" {
			met = map[bool]string{true: "yes", false: "**no**"}[r.Met]
		}
		fmt.Fprintf(&b, "| %s | %.4g | %s | %s | %s | %s | %s | `%s` |\n", r.Name, r.Value, r.Unit, against, ratio, r.Goal, met, r.Command)
	}
	return b.String()
}
