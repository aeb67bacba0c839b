// SPDX-License-Identifier: Apache-2.0

package rounds

import (
	"slices"
	"testing"
)

func TestSidesTakeTurns(t *testing.T) {
	var order []string
	side := func(name string) Side {
		return Side{name, func(testing.TB) float64 { order = append(order, name); return float64(len(order)) }}
	}
	got := Medians(t, 3, []Side{side("a"), side("b")})
	if want := []string{"a", "b", "b", "a", "a", "b"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if got["a"] != 4 || got["b"] != 3 {
		t.Errorf("medians %v", got)
	}
}

func TestQuantile(t *testing.T) {
	var figures []float64
	for i := range 100 {
		figures = append(figures, float64(99-i))
	}
	for part, want := range map[float64]float64{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := Quantile(figures, part); got != want {
			t.Errorf("at %v: %v, want %v", part, got, want)
		}
	}
}
