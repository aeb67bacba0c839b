// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
	"github.com/weftmesh/weft/pkg/state"
)

// Result is one compilation: what the kernel is to hold, and how to explain it.
type Result struct {
	Desired state.Desired
	View    View
	book    rulesets.Book
	waiting map[uint32]wait // endpoints that cannot be compiled yet
}

// compiler keeps what the next compilation can use, which changes no answer, and what
// it has told of addresses, of which a compilation tells what has changed.
type compiler struct {
	policies   *policy.Compiler
	identities *identityIndex
	effective  map[wholeSet]model.PolicySet // of the last compilation
	others     *others
	addresses  *addresses
}

func newCompiler() *compiler {
	return &compiler{policies: policy.NewCompiler(), identities: newIdentityIndex(),
		others: newOthers(), addresses: newAddresses()}
}

// compile is pure but for what the compiler keeps.
func (c *compiler) compile(node Node, s state.Snapshot, st step) (Result, error) {
	identityOf := c.identities.finder(node, s)
	bound, waiting := bind(identityOf, st.running, s)
	c.addresses.lead(c.others.update(node, s, st.identities, st.applied))
	in := policy.Inputs{
		Policies:   append(implicitPolicies(), st.policies...),
		Identities: st.identities,
		Ports:      portsByIdentity(identityOf, s.Pods, &c.others.ports),
		Prefixes:   st.universe,
	}
	for _, e := range bound {
		in.Subjects = append(in.Subjects, policy.Subject{
			Identity: e.identity.ID, Labels: e.identity.Labels, Ports: e.pod.Ports,
		})
	}
	out, err := c.policies.Update(in)
	if err != nil {
		return Result{}, fmt.Errorf("compiling policies: %w", err)
	}
	r := Result{Desired: state.Desired{Revision: s.Revision}, waiting: waiting}
	sets := make(map[model.SetHash]model.PolicySet)
	effective := make(map[wholeSet]model.PolicySet)
	want := wantedRulesets(out.Results)
	numbers := st.book.Number(want)
	if !node.Proxy {
		numbers = nil
	}
	now, ends := make(map[uint32]rulesets.Holder, len(bound)), make([]rulesets.End, 0, len(bound))
	for i, e := range bound {
		result := &out.Results[i]
		result.Set = c.effectiveSet(*result, numbers, effective)
		now[e.ID] = rulesets.Holder{Isolated: result.Isolate, Set: result.Set}
		ends = append(ends, rulesets.End{Identity: e.identity.ID, Set: result.Set})
		if len(result.Set.Entries) > 0 {
			sets[result.Set.Hash] = result.Set
		}
		r.Desired.Endpoints = append(r.Desired.Endpoints, endpointRow(e, *result))
	}
	c.effective = effective
	for _, set := range sets {
		r.Desired.Sets = append(r.Desired.Sets, set)
	}
	slices.SortFunc(r.Desired.Sets, func(a, b model.PolicySet) int { return slices.Compare(a.Hash[:], b.Hash[:]) })
	slices.SortFunc(r.Desired.Endpoints, func(a, b model.EndpointRow) int { return cmp.Compare(a.Slot, b.Slot) })
	r.Desired.IPs = c.addresses.changes(node, s, st.overlay, bound, c.others.dir, st.reachable)
	if st.overlay != nil {
		r.Desired.Nodes = st.overlay.rows
	}
	r.book = st.book.Next(want, numbers, rulesets.Change{Before: st.inForce, Now: now}).WithPairs(rulesets.Meet(ends), len(want))
	r.Desired.Rulesets = r.book.List()
	r.View = makeView(node, s, st, bound, c.others.dir, out)
	r.View.withRulesets(r.book, unnumbered(want, numbers), node.Proxy)
	return r, nil
}

// wholeSet is a set as it was compiled, where its endpoints are isolated, and which
// numbers its rulesets have.
type wholeSet struct {
	hash    model.SetHash
	isolate [2]bool
	numbers string
}

// effectiveSet leaves out of a result what cannot matter, and gives its rulesets their
// numbers. What it finds is noted in now.
func (c *compiler) effectiveSet(r policy.Result, numbers rulesets.Numbers, now map[wholeSet]model.PolicySet) model.PolicySet {
	whole := wholeSet{r.Set.Hash, r.Isolate, numbersOf(r, numbers)}
	set, ok := now[whole]
	if !ok {
		set, ok = c.effective[whole]
	}
	if !ok {
		set = r.Set
		entries := withoutIdle(rulesets.InForce(r, numbers), r.Isolate)
		if len(entries) < len(set.Entries) || whole.numbers != "" {
			set = model.PolicySet{Hash: model.HashEntries(entries), Entries: entries}
		}
	}
	now[whole] = set
	return set
}

func endpointRow(e boundEndpoint, r policy.Result) model.EndpointRow {
	return model.EndpointRow{
		Slot: e.Slot, ID: e.ID, IfIndex: e.HostIfIndex, IfName: e.HostIfName,
		Identity: e.identity.ID, Set: r.Set.Hash,
		EnforceEgress: r.Isolate[model.Egress], EnforceIngress: r.Isolate[model.Ingress],
		MTU: e.MTU, MAC: e.MAC, HostMAC: e.HostMAC, IPv4: e.IPv4, IPv6: e.IPv6,
	}
}
