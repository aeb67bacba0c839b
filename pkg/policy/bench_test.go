// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
)

// The size that the limits are given for: a new policy within 50 ms, a new
// identity within 20 ms.
const (
	benchIdentities = 10_000
	benchPolicies   = 1_000
	benchSubjects   = 250
	benchApps       = 500
)

func benchPolicy(i int) model.Policy {
	app := func(n int) model.Selector {
		return model.Selector{Requirements: []model.Requirement{
			{Source: "any", Key: "app", Operator: model.OpIn, Values: []string{fmt.Sprint("app", n%benchApps)}},
			{Source: model.SourceK8s, Key: model.LabelNamespace, Operator: model.OpIn, Values: []string{"shop"}},
		}}
	}
	p := model.Policy{Key: model.PolicyKey{Kind: "WeftNetworkPolicy", Namespace: "shop", Name: fmt.Sprint("p", i)}}
	p.Subject, p.Isolate = app(i), [2]bool{true, true}
	for j := range 3 {
		from := app(i + j + 1)
		p.Rules = append(p.Rules, model.Rule{
			Direction: model.Direction(j % 2), Action: model.ActionAllow, Name: fmt.Sprint("rule", j),
			Peers: []model.Peer{{Selector: &from}},
			Ports: []model.PortRange{{Protocol: model.ProtoTCP, First: 80, Last: 80}, {Protocol: model.ProtoTCP, First: 8080, Last: 8090}},
		})
	}
	return p
}

func benchIdentity(i int) model.Identity {
	return model.Identity{ID: model.MinClusterIdentity + model.IdentityID(i), Labels: model.NewLabels(
		label("app", fmt.Sprint("app", i%benchApps)), label("version", fmt.Sprint(i/benchApps)),
		label(model.LabelNamespace, "shop"), label(model.LabelServiceAccount, "default"),
	)}
}

func benchInputs() policy.Inputs {
	var in policy.Inputs
	for i := range benchPolicies {
		in.Policies = append(in.Policies, benchPolicy(i))
	}
	for i := range benchIdentities {
		in.Identities = append(in.Identities, benchIdentity(i))
	}
	for i := range benchSubjects {
		id := in.Identities[i]
		in.Subjects = append(in.Subjects, policy.Subject{Identity: id.ID, Labels: id.Labels})
	}
	return in
}

func update(b *testing.B, c *policy.Compiler, in policy.Inputs) {
	if _, err := c.Update(in); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkCompileAll(b *testing.B) {
	in := benchInputs()
	for b.Loop() {
		update(b, policy.NewCompiler(), in)
	}
}

func BenchmarkNothingNew(b *testing.B) {
	in := benchInputs()
	c := policy.NewCompiler()
	update(b, c, in)
	for b.Loop() {
		update(b, c, in)
	}
}

func BenchmarkNewPolicy(b *testing.B) {
	in := benchInputs()
	more := in
	more.Policies = append(slices.Clone(in.Policies), benchPolicy(benchPolicies))
	c := policy.NewCompiler()
	update(b, c, in)
	for i := 0; b.Loop(); i++ {
		update(b, c, []policy.Inputs{more, in}[i%2])
	}
}

func BenchmarkNewIdentity(b *testing.B) {
	in := benchInputs()
	more := in
	more.Identities = append(slices.Clone(in.Identities), benchIdentity(benchIdentities+3))
	c := policy.NewCompiler()
	update(b, c, in)
	for i := 0; b.Loop(); i++ {
		update(b, c, []policy.Inputs{more, in}[i%2])
	}
}

// The worst case: every subject's set has a row for every identity.
func BenchmarkNewIdentityForAll(b *testing.B) {
	in := benchInputs()
	all := benchPolicy(benchPolicies)
	all.Subject = model.Selector{}
	all.Rules[0].Peers, all.Rules[0].Ports = []model.Peer{{Entity: "cluster"}}, nil
	in.Policies = append(in.Policies, all)
	more := in
	more.Identities = append(slices.Clone(in.Identities), benchIdentity(benchIdentities+3))
	c := policy.NewCompiler()
	update(b, c, in)
	for i := 0; b.Loop(); i++ {
		update(b, c, []policy.Inputs{more, in}[i%2])
	}
}
