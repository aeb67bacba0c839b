// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"
	"testing"
	"time"
)

// What is missing has a line each, no wider than the terminal.
func TestWhatAWaitWaitsForFitsTheTerminal(t *testing.T) {
	one := []string{"node worker-2: its datapath is not proven"}
	if got := waitingFor(one, 0); got != "weft: waiting for: node worker-2: its datapath is not proven" {
		t.Errorf("one: %q", got)
	}
	many := append([]string{"DaemonSet weft-agent: 1 of 2 pods are ready, 2 of the newest template"}, one...)
	if got, want := waitingFor(many, 0), "weft: waiting for:\n  "+many[0]+"\n  "+many[1]; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const width = 40
	for _, text := range []string{waitingFor(one, width), waitingFor(many, width),
		"weft: " + (&notReadyError{missing: many, after: time.Second, width: width}).Error()} {
		for _, line := range strings.Split(text, "\n") {
			if len(line) > width {
				t.Errorf("%q is wider than %d", line, width)
			}
		}
	}
	if got := (&notReadyError{missing: many}).Error(); got != many[0]+"\nweft: "+many[1] {
		t.Errorf("given up: %q", got)
	}
}
