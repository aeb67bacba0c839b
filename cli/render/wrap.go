// SPDX-License-Identifier: Apache-2.0

package render

import "strings"

// wrapIndent begins the lines that go on with the one before.
const wrapIndent = "    "

// Wrap breaks a line at spaces so that none is wider than width, where words allow it; 0
// breaks nothing.
func Wrap(line string, width int) string {
	if width <= 0 {
		return line
	}
	var out strings.Builder
	used := 0
	for i, word := range strings.Split(line, " ") {
		n := len([]rune(word))
		switch {
		case i == 0:
		case used+1+n > width && used > len(wrapIndent):
			out.WriteString("\n" + wrapIndent)
			used = len(wrapIndent)
		default:
			out.WriteByte(' ')
			used++
		}
		out.WriteString(word)
		used += n
	}
	return out.String()
}
