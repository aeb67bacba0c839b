// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	benchLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.+)$`)
	pkgLine   = regexp.MustCompile(`^pkg: github\.com/weftmesh/weft/(\S+)`)
)

// parse makes a row of each metric; a benchmark reports 0 ns/op if it does not
// measure that.
func parse(command, text string) []row {
	var rows []row
	pkg := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := pkgLine.FindStringSubmatch(line); m != nil {
			pkg = m[1]
		}
		m := benchLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil || value == 0 && fields[i+1] == "ns/op" {
				continue
			}
			rows = append(rows, row{Name: pkg + "/" + m[1], Value: value, Unit: fields[i+1], Judge: "value", Met: true, Command: command})
		}
	}
	return rows
}
