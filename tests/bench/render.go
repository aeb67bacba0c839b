// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"strings"
)

// notes say what the figures are, and of those that miss their goal why.
//
//go:embed notes.md
var notes string

func render(rows []row, missing []goal) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\nRendered by `make bench`, `make bench-cluster` and `make bench-l7` from build/bench.jsonl and tests/bench/notes.md. Absolute figures depend on the machine;\n" +
		"ratios are what to compare. Each figure is compared only with what was measured in turn with it, in the same run.\n\n## Goals\n\n")
	table(&b, rows, true)
	missed(&b, rows, missing)
	b.WriteString("\n" + strings.TrimSpace(notes) + "\n\n## Everything else that was measured\n\n")
	table(&b, rows, false)
	return b.String()
}

// table shows the rows that have a goal, or those that have none.
func table(b *strings.Builder, rows []row, goals bool) {
	b.WriteString("| figure | value | unit | against | ratio | goal | met | command |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if (r.Goal != "") != goals {
			continue
		}
		against, ratio, met, goal := "", "", "", ""
		if r.Baseline != nil {
			against = fmt.Sprintf("%s: %.4g", r.Baseline.Name, r.Baseline.Value)
		}
		if r.Ratio != nil {
			ratio = fmt.Sprintf("%.3g", *r.Ratio)
		}
		if r.Goal != "" {
			goal = r.Judge + " " + r.Goal
			met = map[bool]string{true: "yes", false: "**no**"}[r.Met]
		}
		fmt.Fprintf(b, "| %s | %.4g | %s | %s | %s | %s | %s | `%s` |\n", r.Name, r.Value, r.Unit, against, ratio, goal, met, r.Command)
	}
}

func missed(b *strings.Builder, rows []row, missing []goal) {
	b.WriteString("\nMissed in the last run of each command:\n\n")
	count := 0
	for _, r := range rows {
		if r.Met {
			continue
		}
		count++
		of := r.Value
		if r.Judge == "ratio" && r.Ratio != nil {
			of = *r.Ratio
		}
		fmt.Fprintf(b, "* %s: %s %.4g, goal %s\n", r.Name, r.Judge, of, r.Goal)
	}
	for _, g := range missing {
		count++
		fmt.Fprintf(b, "* %s: not measured, goal %s %s\n", g.figure, g.bound.judge, g.bound)
	}
	if count == 0 {
		b.WriteString("* none\n")
	}
}
