// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// Table writes rows under a header, columns aligned.
func Table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = orDash(printable(cell))
		}
		if _, err := fmt.Fprintln(tw, strings.Join(cells, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable keeps what came from a file or an object from steering the terminal
// or breaking a table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// FlowHeader is the head of a table of flows.
func (s Style) FlowHeader() []string {
	header := []string{"TIME", "VERDICT", "SOURCE", "SERVICE", "DESTINATION", "PROTOCOL", "WHY"}
	if s.NodeWidth > 0 {
		header = slices.Insert(header, 1, "NODE")
	}
	return header
}

// FlowCells is a flow's row.
func (s Style) FlowCells(f *agentv1.Flow) []string {
	word, _ := verdict(f)
	cells := []string{s.clock(f), word, Peer(f.GetSource(), f.GetProtocol()),
		orDash(serviceName(f.GetService())), Peer(f.GetDestination(), f.GetProtocol()), Protocol(f), toldOf(f)}
	if s.NodeWidth > 0 {
		cells = slices.Insert(cells, 1, f.GetNode())
	}
	return cells
}

// GrowingRow writes a row of a table of flows that goes on: columns have a fixed
// width, since what comes next is not known.
func (s Style) GrowingRow(w io.Writer, cells []string) error {
	widths := []int{12, 9, 36, 20, 36, 18, 0}
	if s.NodeWidth > 0 {
		widths = slices.Insert(widths, 1, max(s.NodeWidth, len("NODE")))
	}
	var line strings.Builder
	for i, c := range cells {
		if i > 0 {
			line.WriteString("   ")
		}
		fmt.Fprintf(&line, "%-*s", widths[i], c)
	}
	_, err := fmt.Fprintln(w, line.String())
	return err
}
