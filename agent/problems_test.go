// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
)

// The line of the source reads as a sentence, whatever the source is.
func TestFaultsAreToldWithTheirSource(t *testing.T) {
	var p problems
	line := func(message string, err error) *agentv1.ComponentStatus {
		return p.status(func() (string, string, error) { return "source", message, err })()
	}
	if got := line("the API server is followed", nil); got.GetHealth() != agentv1.Health_HEALTH_OK || got.GetMessage() != "the API server is followed" {
		t.Errorf("without faults: %v", got)
	}
	p.set([]fault{{text: "a: wrong", effect: "nothing of it is in force"}, {text: "b: wrong", effect: "nothing of it is in force"}})
	for _, c := range []struct {
		message string
		err     error
		want    string
	}{
		{"the API server is followed", nil, "the API server is followed, with 2 faults; nothing of it is in force: a: wrong"},
		{"/etc/weft/manifests", nil, "/etc/weft/manifests, with 2 faults; nothing of it is in force: a: wrong"},
		{"", errors.New("refused"), "refused, with 2 faults; nothing of it is in force: a: wrong"},
	} {
		if got := line(c.message, c.err); got.GetHealth() != agentv1.Health_HEALTH_DEGRADED || got.GetMessage() != c.want {
			t.Errorf("%q, %v: %v, want %q", c.message, c.err, got, c.want)
		}
	}
}
