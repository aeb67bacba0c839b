// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"testing"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
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

// A slice that speaks for another node's addresses is named.
func TestForeignClaimsAreInTheStatus(t *testing.T) {
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{tables: tables}
	a.cfg.NodeName = "here"
	if got := a.slicesStatus(); got.GetHealth() != agentv1.Health_HEALTH_OK {
		t.Errorf("without slices: %v", got)
	}
	slice := model.NodeSlice{Name: "far-a", Node: "far", Endpoints: []model.NodeEndpoint{
		{Pod: model.PodKey{Namespace: "demo", Name: "a"}, Identity: 300, IPv4: netip.MustParseAddr("192.0.2.1")}}}
	if _, err := tables.Apply(state.Changes{Put: state.Source{NodeSlices: []model.NodeSlice{slice}}, Synced: true}); err != nil {
		t.Fatal(err)
	}
	const want = "a slice with claims to addresses of others, which do not count: WeftEndpointSlice far-a of node far claims 192.0.2.1 " +
		"for pod demo/a, which is not in that node's ranges []"
	if got := a.slicesStatus(); got.GetHealth() != agentv1.Health_HEALTH_DEGRADED || got.GetMessage() != want {
		t.Errorf("got %v, want %q", got, want)
	}
}
