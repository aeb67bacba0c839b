// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARunReplacesOnlyItsOwnRows(t *testing.T) {
	dir := t.TempDir()
	in, out, doc := filepath.Join(dir, "in"), filepath.Join(dir, "rows"), filepath.Join(dir, "doc")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(out, `{"name":"other","value":2,"unit":"s","command":"make bench-l7"}
{"name":"gone","value":2,"unit":"s","command":"make bench"}
`)
	write(in, "pkg: github.com/weftmesh/weft/tests/bpf\nBenchmarkNew/v4-2  5000  0 ns/op  91.5 ns/packet\nPASS\n")
	for range 2 {
		if err := run("make bench", in, out, doc); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Count(string(rows), "\n")
	if got != 2 || !strings.Contains(string(rows), `"tests/bpf/New/v4","value":91.5,"unit":"ns/packet"`) ||
		!strings.Contains(string(rows), "make bench-l7") {
		t.Errorf("rows:\n%s", rows)
	}
	if text, err := os.ReadFile(doc); err != nil || !strings.Contains(string(text), "| tests/bpf/New/v4 | 91.5 | ns/packet |") {
		t.Errorf("document, error %v:\n%s", err, text)
	}
}

func TestFiguresAreJudged(t *testing.T) {
	rows := judge([]row{{Name: "slow", Unit: "ns", Value: 30, Met: true}, {Name: "fast", Unit: "ns", Value: 10, Met: true},
		{Name: "free", Unit: "ns", Value: 1, Met: true}, {Name: "alone", Unit: "ns", Value: 1, Met: true}}, []goal{
		{"slow", "ns", "fast", ratioAtMost(2)}, {"fast", "ns", "slow", valueAtMost(10)}, {"alone", "ns", "nobody", ratioAtLeast(1)},
	})
	if slow := rows[0]; slow.Met || *slow.Ratio != 3 || slow.Baseline.Name != "fast" || slow.Goal != "<=2" || slow.Judge != "ratio" {
		t.Errorf("slow is %+v", slow)
	}
	if fast := rows[1]; !fast.Met || fast.Goal != "<=10" || fast.Judge != "value" {
		t.Errorf("fast is %+v", fast)
	}
	if rows[2].Goal != "" || !rows[2].Met || rows[3].Met {
		t.Errorf("without a goal: %+v; without its baseline: %+v", rows[2], rows[3])
	}
}

func TestNoGoalIsForgotten(t *testing.T) {
	seen := map[[2]string]bool{}
	for _, g := range goals() {
		if key := [2]string{g.figure, g.unit}; seen[key] {
			t.Errorf("%s has two goals", g.figure)
		} else {
			seen[key] = true
		}
	}
	text := render(nil, absent(nil, []goal{{"gone", "ns", "", valueAtMost(1)}, {"compared", "ns", "", bound{}}}))
	if !strings.Contains(text, "* gone: not measured, goal value <=1") || strings.Contains(text, "compared:") {
		t.Errorf("document:\n%s", text)
	}
}
