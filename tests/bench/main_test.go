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
		if err := run(in, out, doc); err != nil {
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
