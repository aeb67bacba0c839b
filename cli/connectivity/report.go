// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Line is a result for people: one line, and below it, if it failed, what was
// expected, what happened and a hint.
func (r Result) Line() string {
	const layout = "%-16s %-80s %s"
	switch r.Status {
	case OK:
		return fmt.Sprintf(layout, r.Test, r.Check, "ok")
	case Skipped:
		return fmt.Sprintf(layout, r.Test, "", "skipped: "+r.Happened)
	}
	text := fmt.Sprintf(layout, r.Test, r.Check, "FAILED") +
		"\n" + strings.Repeat(" ", 17) + "expected: " + oneLine(r.Expected) +
		"\n" + strings.Repeat(" ", 17) + "happened: " + oneLine(r.Happened)
	if r.Hint != "" {
		text += "\n" + strings.Repeat(" ", 17) + "hint:     " + oneLine(r.Hint)
	}
	return text
}

// together makes one result of those that differ by family and protocol only. What
// failed first stands for what failed.
func together(results []Result) []Result {
	var order []string
	by := make(map[string][]Result)
	for _, r := range results {
		if by[r.Check] == nil {
			order = append(order, r.Check)
		}
		by[r.Check] = append(by[r.Check], r)
	}
	var out []Result
	for _, name := range order {
		out = append(out, unite(by[name]))
	}
	return out
}

func unite(of []Result) Result {
	one := of[0]
	var all, failed []string
	for _, r := range of {
		all = append(all, r.variant)
		one.Seconds = max(one.Seconds, r.Seconds)
		if r.Status != Failed {
			continue
		}
		if len(failed) == 0 {
			seconds := one.Seconds
			one = r
			one.Seconds = max(seconds, r.Seconds)
		}
		failed = append(failed, r.variant)
	}
	which := all
	if len(failed) > 0 {
		which = failed
	}
	if text := strings.Join(which, ", "); text != "" {
		one.Check += " (" + text + ")"
	}
	return one
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Summary counts results.
type Summary struct {
	OK      int     `json:"ok"`
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"` // tests, each counted once
	Seconds float64 `json:"seconds"`
}

// Sum counts.
func Sum(results []Result, took time.Duration) Summary {
	s := Summary{Seconds: took.Seconds()}
	for _, r := range results {
		switch r.Status {
		case OK:
			s.OK++
		case Failed:
			s.Failed++
		default:
			s.Skipped++
		}
	}
	return s
}

// WriteJSON writes all results as one object.
func WriteJSON(w io.Writer, results []Result, s Summary) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Summary Summary  `json:"summary"`
		Checks  []Result `json:"checks"`
	}{s, results})
}

// junitCase is one check in the form that CI systems read.
type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    float64       `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *junitFailure `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes all results as a suite of tests.
func WriteJUnit(w io.Writer, results []Result, s Summary) error {
	suite := struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     float64     `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}{Name: "weft connectivity", Tests: len(results), Failures: s.Failed, Skipped: s.Skipped, Time: s.Seconds}
	for _, r := range results {
		c := junitCase{Class: "weft.connectivity." + r.Test, Name: r.Check, Time: r.Seconds}
		switch r.Status {
		case Failed:
			c.Failure = &junitFailure{Message: oneLine(r.Happened), Text: "expected: " + r.Expected + "\nhint: " + r.Hint}
		case Skipped:
			c.Name = r.Test
			c.Skipped = &junitFailure{Message: r.Happened}
		}
		suite.Cases = append(suite.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suite); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
