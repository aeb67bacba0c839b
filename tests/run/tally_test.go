// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	const start = `{"Action":"run","Package":"p","Test":"A"}` + "\n"
	cases := []struct {
		name, events, last string
		ok                 bool
	}{
		{"pass counts leaves only", start +
			`{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`, "1 passed, 0 failed", true},
		{"kernel skip is counted", start +
			`{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: kernel: netkit\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Test":"B"}
{"Action":"pass","Package":"p"}`, "1 passed, 0 failed, 1 skipped", true},
		{"any other skip fails", start +
			`{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: not root\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}`, "0 passed, 1 failed", false},
		{"a package that does not build fails once",
			`{"Action":"build-output","ImportPath":"p","Output":"p.go:1: broken\n"}
{"Action":"fail","Package":"p"}`, "0 passed, 1 failed", false},
		{"a panic fails once", start +
			`{"Action":"output","Package":"p","Test":"A","Output":"panic: x\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}`, "0 passed, 1 failed", false},
		{"nothing run fails", "", "0 passed, 1 failed", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			tally := newTally(&out)
			if err := tally.read(strings.NewReader(c.events)); err != nil {
				t.Fatal(err)
			}
			ok := tally.summary()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; last != c.last || ok != c.ok {
				t.Errorf("last line %q, ok %v, want %q, %v\n%s", last, ok, c.last, c.ok, out.String())
			}
		})
	}
}

// A failure's messages come again at the end, where whoever sees only that finds them.
func TestTheSummarySaysWhyTestsFailed(t *testing.T) {
	var out strings.Builder
	tally := newTally(&out)
	var events strings.Builder
	for i := range 12 {
		fmt.Fprintf(&events, `{"Action":"output","Package":"p","Test":"A/x","Output":"        a_test.go:3: reason %d\n"}`+"\n", i)
	}
	events.WriteString(`{"Action":"output","Package":"p","Test":"A/x","Output":"a line of a log\n"}
{"Action":"fail","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p"}
`)
	if err := tally.read(strings.NewReader(events.String())); err != nil {
		t.Fatal(err)
	}
	tally.summary()
	_, brief, found := strings.Cut(out.String(), "\nfailed p A/x\n")
	if !found || !strings.HasPrefix(brief, "        a_test.go:3: reason 2\n") || strings.Contains(brief, "a line of a log") {
		t.Errorf("the end says\n%s", brief)
	}
}
