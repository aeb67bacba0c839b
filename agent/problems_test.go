// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/weftmesh/weft/agent/api"
	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/pkg/k8s"
	"github.com/weftmesh/weft/pkg/k8s/source"
	"github.com/weftmesh/weft/pkg/manifest"
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

// Both sources name the policies that have a fault.
func TestFaultsOfPoliciesHaveTheirNames(t *testing.T) {
	var p problems
	tables, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	_, faults := manifest.Decode("p.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {nam: x}\n---\n"+
		"apiVersion: weftmesh.io/v1alpha1\nkind: WeftNetworkPolicy\nmetadata: {name: web}\nspec:\n  endpointSelector: {}\n  ingres: []\n"))
	if err := (manifestSink{tables: tables, problems: &p}).Apply(manifest.State{Problems: faults}); err != nil {
		t.Fatal(err)
	}
	web := model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "default", Name: "web"}
	want := api.PolicyFault{Source: "p.yaml", Message: `nothing of the file is in force: line 10: spec.ingres: unknown field; did you mean "ingress"?`}
	if got := p.ofPolicies(); len(got) != 1 || got[web] != want {
		t.Errorf("of a file: %+v, want %+v", got, want)
	}
	kubernetesSink{tables: tables, problems: &p}.Report([]source.Problem{
		{Fault: k8s.Fault{Kind: "Pod", Namespace: "demo", Name: "web", Message: "bad"}},
		{Fault: k8s.Fault{Kind: "WeftNetworkPolicy", Namespace: "default", Name: "web", Field: "spec", Message: "bad", More: 2}, Kept: true},
	})
	want = api.PolicyFault{Source: "kubernetes", Message: "what it said last stays in force: spec: bad (and 2 more)"}
	if got := p.ofPolicies(); len(got) != 1 || got[web] != want {
		t.Errorf("of the API server: %+v, want %+v", got, want)
	}
}
