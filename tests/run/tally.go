// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// event is one line of `go test -json`.
type event struct {
	Action  string
	Package string
	// ImportPath stands in build events, in the place of Package.
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// tally counts results and prints what a reader needs of them. Only tests
// without subtests count.
type tally struct {
	out     io.Writer
	started time.Time
	output  map[string]*strings.Builder // by package and test
	parents map[string]bool             // tests that have subtests
	build   strings.Builder             // of packages that did not compile
	perPkg  map[string]*count
	skips   []string
	brief   []string // of the failures, for the end

	passed, failed, skipped int
}

type count struct{ passed, failed, skipped int }

func newTally(out io.Writer) *tally {
	return &tally{out: out, started: time.Now(), output: make(map[string]*strings.Builder),
		parents: make(map[string]bool), perPkg: make(map[string]*count)}
}

// read takes in the results of one `go test -json` until it ends.
func (t *tally) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<20), 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(t.out, lines.Text())
			continue
		}
		t.take(e)
	}
	return lines.Err()
}

func (t *tally) take(e event) {
	key := e.Package + " " + e.Test
	if i := strings.LastIndex(e.Test, "/"); i > 0 {
		t.parents[e.Package+" "+e.Test[:i]] = true
	}
	switch e.Action {
	case "output":
		t.keep(key, e.Output)
	case "build-output":
		t.build.WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e)
		} else {
			t.endTest(e, key)
		}
	}
}

func (t *tally) keep(key, text string) {
	b := t.output[key]
	if b == nil {
		b = &strings.Builder{}
		t.output[key] = b
	}
	b.WriteString(text)
}

// kernelSkip is the only reason for which a test may be skipped.
var kernelSkip = regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: kernel: (.+)$`)

func (t *tally) endTest(e event, key string) {
	output := t.text(key)
	delete(t.output, key)
	c := t.of(e.Package)
	switch {
	case e.Action == "fail":
		t.print(e, output)
		if !t.parents[key] {
			c.failed++
		}
	case e.Action == "skip":
		m := kernelSkip.FindStringSubmatch(output)
		if m == nil {
			t.print(e, output+"    a skip must name a kernel feature: t.Skip(\"kernel: …\")\n")
			c.failed++
			return
		}
		c.skipped++
		t.skips = append(t.skips, fmt.Sprintf("skipped %s %s: the kernel lacks %s", short(e.Package), e.Test, m[1]))
	case !t.parents[key]:
		c.passed++
	}
}

func (t *tally) endPackage(e event) {
	c := t.of(e.Package)
	if e.Action == "fail" && c.failed == 0 {
		// It did not compile, panicked, or ran out of time.
		c.failed++
		t.print(e, t.build.String()+t.unfinished(e.Package))
	}
	t.build.Reset()
	t.passed, t.failed, t.skipped = t.passed+c.passed, t.failed+c.failed, t.skipped+c.skipped
	word := "ok  "
	if c.failed > 0 {
		word = "FAIL"
	}
	if c.passed+c.failed+c.skipped > 0 {
		fmt.Fprintf(t.out, "%s %6.1fs  %-40s %d passed%s%s\n", word, e.Elapsed, short(e.Package), c.passed,
			more(c.failed, "failed"), more(c.skipped, "skipped"))
	}
	delete(t.perPkg, e.Package)
}

// unfinished is all output of a package that no ended test has claimed.
func (t *tally) unfinished(pkg string) string {
	var b strings.Builder
	for key, out := range t.output {
		if strings.HasPrefix(key, pkg+" ") {
			b.WriteString(out.String())
			delete(t.output, key)
		}
	}
	return b.String()
}

func (t *tally) print(e event, output string) {
	fmt.Fprintf(t.out, "---- %s %s\n%s", short(e.Package), e.Test, output)
	t.brief = append(t.brief, fmt.Sprintf("failed %s %s", short(e.Package), e.Test))
	said := message.FindAllString(output, -1)
	t.brief = append(t.brief, said[max(0, len(said)-mostMessages):]...)
}

// message is the first line of what a test says itself, cut to what a reader takes in.
var message = regexp.MustCompile(`(?m)^ +\S+\.go:\d+: .{0,400}`)

// mostMessages of a test are said again at the end; the last are why it ended.
const mostMessages = 10

func (t *tally) text(key string) string {
	if b := t.output[key]; b != nil {
		return b.String()
	}
	return ""
}

func (t *tally) of(pkg string) *count {
	c := t.perPkg[pkg]
	if c == nil {
		c = &count{}
		t.perPkg[pkg] = c
	}
	return c
}

// fail counts a failure that no test reported.
func (t *tally) fail(why string) {
	t.failed++
	fmt.Fprintln(t.out, "----", why)
	t.brief = append(t.brief, "failed: "+why)
}

// summary prints the last lines, and before them the failures in brief, and tells whether all is well.
func (t *tally) summary() bool {
	for _, s := range t.brief {
		fmt.Fprintln(t.out, s)
	}
	for _, s := range t.skips {
		fmt.Fprintln(t.out, s)
	}
	fmt.Fprintf(t.out, "in %s\n", time.Since(t.started).Round(time.Second))
	if t.passed == 0 && t.failed == 0 {
		t.fail("no test ran")
	}
	fmt.Fprintf(t.out, "%d passed, %d failed%s\n", t.passed, t.failed, more(t.skipped, "skipped"))
	return t.failed == 0
}

func more(n int, word string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, word)
}

func short(pkg string) string { return strings.TrimPrefix(pkg, "github.com/weftmesh/weft/") }
