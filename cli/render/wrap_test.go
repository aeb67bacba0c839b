// SPDX-License-Identifier: Apache-2.0

package render

import "testing"

func TestWrap(t *testing.T) {
	const line = "  node worker-1: its datapath is not proven"
	for _, c := range []struct {
		width int
		want  string
	}{
		{0, line},
		{len(line), line},
		{len(line) - 1, "  node worker-1: its datapath is not\n    proven"},
		{20, "  node worker-1: its\n    datapath is not\n    proven"},
		{3, "  node\n    worker-1:\n    its\n    datapath\n    is\n    not\n    proven"},
	} {
		if got := Wrap(line, c.width); got != c.want {
			t.Errorf("to %d:\n%s\nwant\n%s", c.width, got, c.want)
		}
	}
}
