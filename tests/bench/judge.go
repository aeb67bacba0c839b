// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
)

// goal is what is asked of a figure, and what the figure is compared with. A bound
// without a goal only compares.
type goal struct {
	figure   string // package and benchmark
	unit     string
	baseline string // another figure of the same unit, or empty
	bound    bound
}

// bound is on the ratio where there is a baseline to judge by, else on the value.
type bound struct {
	judge string // "value" or "ratio"; empty: no goal
	sign  string // "<=" or ">="
	limit float64
}

func valueAtMost(limit float64) bound  { return bound{"value", "<=", limit} }
func valueAtLeast(limit float64) bound { return bound{"value", ">=", limit} }
func ratioAtMost(limit float64) bound  { return bound{"ratio", "<=", limit} }
func ratioAtLeast(limit float64) bound { return bound{"ratio", ">=", limit} }

func (b bound) String() string {
	if b.judge == "" {
		return ""
	}
	return fmt.Sprintf("%s%g", b.sign, b.limit)
}

func (b bound) met(value float64) bool {
	switch b.sign {
	case "<=":
		return value <= b.limit
	case ">=":
		return value >= b.limit
	}
	return true
}

// judge compares the rows with their baselines and goals.
func judge(rows []row, goals []goal) []row {
	value := make(map[[2]string]float64, len(rows))
	for _, r := range rows {
		value[[2]string{r.Name, r.Unit}] = r.Value
	}
	for i := range rows {
		r := &rows[i]
		at := slices.IndexFunc(goals, func(g goal) bool { return g.figure == r.Name && g.unit == r.Unit })
		if at < 0 {
			continue
		}
		g, of := goals[at], r.Value
		if base, ok := value[[2]string{g.baseline, g.unit}]; ok {
			ratio := r.Value / base
			r.Baseline, r.Ratio = &baseline{g.baseline, base}, &ratio
		}
		r.Goal, r.Judge, r.Met = g.bound.String(), "value", true
		if g.bound.judge == "ratio" {
			r.Judge = "ratio"
			if r.Met = r.Ratio != nil; r.Met {
				of = *r.Ratio
			}
		}
		r.Met = r.Met && g.bound.met(of)
	}
	return rows
}

// absent are the goals whose figure is not among the rows.
func absent(rows []row, goals []goal) (out []goal) {
	for _, g := range goals {
		if g.bound.judge != "" && !slices.ContainsFunc(rows, func(r row) bool { return r.Name == g.figure && r.Unit == g.unit }) {
			out = append(out, g)
		}
	}
	return out
}
