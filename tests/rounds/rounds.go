// SPDX-License-Identifier: Apache-2.0

// Package rounds measures things side by side: in each round every side once, so
// that what disturbs the machine disturbs all of them, and the median over the
// rounds counts.
package rounds

import (
	"slices"
	"testing"
)

// Side is one of the things that are compared. Measure gives one round's figure.
type Side struct {
	Name    string
	Measure func(testing.TB) float64
}

// Of gives each side's figures, a round after the other. Sides take turns in
// being first: who follows whom is not always the same.
func Of(tb testing.TB, count int, sides []Side) map[string][]float64 {
	tb.Helper()
	out := make(map[string][]float64, len(sides))
	for round := range count {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			out[s.Name] = append(out[s.Name], s.Measure(tb))
		}
	}
	return out
}

// Medians gives the median of each side's figures.
func Medians(tb testing.TB, count int, sides []Side) map[string]float64 {
	tb.Helper()
	out := make(map[string]float64, len(sides))
	for name, figures := range Of(tb, count, sides) {
		out[name] = Quantile(figures, 0.5)
	}
	return out
}

// Quantile is the figure below which that part of all lies: the next greater one
// that was seen. It sorts the figures.
func Quantile(figures []float64, part float64) float64 {
	slices.Sort(figures)
	return figures[min(int(part*float64(len(figures))), len(figures)-1)]
}

// Report makes a figure of its own of what was measured.
func Report(b *testing.B, name string, value float64, unit string) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		b.ReportMetric(value, unit)
		b.ReportMetric(0, "ns/op")
	})
}
