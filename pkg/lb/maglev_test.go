// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func testNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("10.%d.%d.%d:8080", i/65536, i/256%256, i%256)
	}
	return out
}

// chosen is who gets each of some flows, by name.
func chosen(names []string, flows int) []string {
	table := Maglev(names, tableSize(len(names)))
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]string, flows)
	for i := range out {
		out[i] = names[table[random.Uint32()%uint32(len(table))]]
	}
	return out
}

func TestMaglevSharesAreEven(t *testing.T) {
	const flows = 100_000
	for _, n := range []int{1, 2, 3, 5, 7, 10} {
		counts := make(map[string]int)
		for _, name := range chosen(testNames(n), flows) {
			counts[name]++
		}
		want := float64(flows) / float64(n)
		for name, got := range counts {
			if off := math.Abs(float64(got)-want) / want; off > 0.05 {
				t.Errorf("%d backends: %s gets %d flows of %d, %.1f %% off", n, name, got, flows, 100*off)
			}
		}
	}
}

// The table itself is even whatever the number of backends: chance aside.
func TestMaglevSlotsDifferByOne(t *testing.T) {
	for _, n := range []int{1, 3, 16, 99, 100, 101, 500} {
		counts := make([]int, n)
		for _, i := range Maglev(testNames(n), tableSize(n)) {
			counts[i]++
		}
		if least, most := slices.Min(counts), slices.Max(counts); most-least > 1 {
			t.Errorf("%d backends have from %d to %d slots", n, least, most)
		}
	}
}

func TestMaglevKeepsFlowsWhenOneGoes(t *testing.T) {
	const flows = 100_000
	for _, n := range []int{2, 3, 5, 10, 24, 25, 50, 60, 100} {
		names := testNames(n)
		before := chosen(names, flows)
		for _, gone := range []int{0, n / 2, n - 1} {
			after := chosen(slices.Delete(slices.Clone(names), gone, gone+1), flows)
			moved := 0
			for i := range before {
				if before[i] != after[i] {
					moved++
				}
				if after[i] == names[gone] {
					t.Fatalf("%d backends: one that is gone gets a flow", n)
				}
			}
			if moved >= 2*flows/n {
				t.Errorf("of %d backends one goes, and %d of %d flows move", n, moved, flows)
			}
		}
	}
}

// The order in which names are listed decides nothing but ties between turns;
// the compiler lists them sorted, so equal sets give equal tables.
func TestMaglevIsAFunctionOfItsNames(t *testing.T) {
	names := testNames(7)
	if !slices.Equal(Maglev(names, smallTable), Maglev(slices.Clone(names), smallTable)) {
		t.Error("two tables of the same names differ")
	}
	if Maglev(nil, smallTable) != nil {
		t.Error("nobody gets slots")
	}
}

func TestNumbersStay(t *testing.T) {
	var a, b numbers
	names := testNames(5000)
	a.update(slices.Clone(names), nil)
	seen := make(map[uint32]bool)
	for _, name := range names {
		n := a.of(name)
		if n == 0 || seen[n] {
			t.Fatalf("%s has the number %d, as another or nobody has", name, n)
		}
		seen[n] = true
	}
	slices.Reverse(names)
	b.update(slices.Clone(names), nil)
	for _, name := range names {
		if a.of(name) != b.of(name) {
			t.Fatalf("%s has another number after a restart", name)
		}
	}
}

// A name that collides takes the next number, and keeps it when the first one
// goes; a number that was just given back is not given out at once.
func TestNumbersThatCollide(t *testing.T) {
	var n numbers
	n.update([]string{"x"}, nil)
	taken := n.of("x")
	n.byName, n.taken = map[string]uint32{"other": taken}, map[uint32]bool{taken: true}
	n.update([]string{"x"}, []string{"other"})
	if n.of("x") != taken+1 {
		t.Errorf("x has %d, want the next after %d", n.of("x"), taken)
	}
	n.update([]string{"y"}, nil)
	if n.of("x") != taken+1 {
		t.Error("x has lost its number to nobody")
	}
	n.update(nil, []string{"x"})
	n.update([]string{"x"}, nil)
	if n.of("x") != taken {
		t.Error("its own number is free again")
	}
}
