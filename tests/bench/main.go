// SPDX-License-Identifier: Apache-2.0

// Command bench takes in what `go test -bench` printed, judges it by the goals,
// replaces its own rows in build/bench.jsonl and renders docs/BENCHMARKS.md from
// all rows.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

func main() {
	in := flag.String("in", "build/bench.txt", "output of go test -bench")
	command := flag.String("command", "make bench", "what made it: the rows of others stay")
	rows := flag.String("out", "build/bench.jsonl", "rows, one a line")
	doc := flag.String("doc", "docs/BENCHMARKS.md", "document to render")
	flag.Parse()
	if err := run(*command, *in, *rows, *doc); err != nil {
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

func run(command, in, out, doc string) error {
	text, err := os.ReadFile(in)
	if err != nil {
		return fmt.Errorf("reading the results: %w", err)
	}
	fresh := judge(parse(command, string(text)), goals())
	if len(fresh) == 0 {
		return fmt.Errorf("%s has no figure", in)
	}
	all, err := others(command, out)
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
	return os.WriteFile(doc, []byte(render(all, absent(all, goals()))), 0o644)
}

// others are the rows that another command wrote.
func others(command, path string) ([]row, error) {
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
