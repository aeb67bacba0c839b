// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/rulesets"
	"github.com/weftmesh/weft/pkg/state"
)

// memory is what one compilation leaves for the next: the rules in force, the
// numbers that prefixes have, and the identities that sets know. The zero value is a
// start from nothing.
type memory struct {
	policies   []model.Policy
	prefixes   prefixIDs
	identities known
}

// inForce is what a plan may need to know of what is in the kernel. It is asked only
// when identities have gone or policies have changed: the answer takes a look at every
// address.
type inForce interface {
	// held are the cluster's identities that addresses lead to, or that are believed
	// of what comes from other nodes.
	held() map[model.IdentityID]bool
	// moving tells that an address of another node's pod is to lead elsewhere.
	moving() bool
}

// step is one state that the kernel is brought to on the way to a revision.
type step struct {
	policies []model.Policy
	// universe are the prefixes that policy sets know of; reachable those that
	// addresses lead to. reachable is a part of universe.
	universe   prefixIDs
	reachable  prefixIDs
	identities known // that policy sets know of
	lasting    known // those of them that also the sets of later steps know of
	overlay    *overlay
	running    running
	inForce    map[uint32]rulesets.Holder // what the kernel holds for endpoints
	book       rulesets.Book              // of rulesets, until now
	applied    func(netip.Prefix) (model.IPRow, bool)
}

// plan lists the steps from what is in force to the snapshot's rules, so that
// no packet meets a mixture of rules and identities that neither the old nor
// the new state means. The last step is the snapshot's own state.
func plan(before memory, s state.Snapshot, in inForce) ([]step, error) {
	wanted := policy.Prefixes(s.Policies)
	locals, err := policy.NewLocals(before.prefixes).Update(append(keys(before.prefixes), wanted...))
	if err != nil {
		return nil, fmt.Errorf("numbering the prefixes of policies: %w", err)
	}
	all := locals.IDs()
	final := make(prefixIDs, len(wanted))
	for _, p := range wanted {
		final[p] = all[p]
	}
	ids, more := identities(before, s, in)

	var steps []step
	add := func(st step) {
		st.lasting = ids
		steps = append(steps, st)
	}
	if before.policies != nil && (len(all) > len(before.prefixes) || !reflect.DeepEqual(before.policies, s.Policies) && in.moving()) {
		add(step{policies: before.policies, universe: all, reachable: all, identities: more})
	}
	if !maps.Equal(all, final) {
		add(step{policies: s.Policies, universe: all, reachable: all, identities: more})
		add(step{policies: s.Policies, universe: all, reachable: final, identities: more})
	}
	if len(more) > len(ids) {
		add(step{policies: s.Policies, universe: final, reachable: final, identities: more})
	}
	add(step{policies: s.Policies, universe: final, reachable: final, identities: ids})
	return steps, nil
}

// identities are those that sets are to know: the snapshot's, and those that went
// while pods of other nodes are still said to have them. more are also those that
// addresses in the kernel still lead to: sets forget a number only when no address
// has it.
func identities(before memory, s state.Snapshot, in inForce) (ids, more known) {
	ids = s.Identities
	if gone, _ := model.DiffIdentities(before.identities, ids); len(gone) == 0 {
		return ids, ids
	}
	var named, led []model.Identity
	keep := func(to []model.Identity, id model.IdentityID) []model.Identity {
		if ids.has(id) {
			return to
		}
		if old, ok := before.identities.find(id); ok {
			to = append(to, old)
		}
		return to
	}
	for i := range s.NodeSlices {
		for _, e := range s.NodeSlices[i].Endpoints {
			named = keep(named, e.Identity)
		}
	}
	for id := range in.held() {
		led = keep(led, id)
	}
	ids = ids.with(named)
	return ids, ids.with(led)
}

func keys(m prefixIDs) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	return out
}
