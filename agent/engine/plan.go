// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// memory is what one compilation leaves for the next: the rules in force, and
// the numbers that prefixes have. The zero value is a start from nothing.
type memory struct {
	policies []model.Policy
	prefixes map[netip.Prefix]model.IdentityID
}

// step is one state that the kernel is brought to on the way to a revision.
type step struct {
	policies []model.Policy
	// universe are the prefixes that policy sets know of; reachable those that
	// addresses lead to. reachable is a part of universe.
	universe  map[netip.Prefix]model.IdentityID
	reachable map[netip.Prefix]model.IdentityID
}

// plan lists the steps from what is in force to the snapshot's rules, so that
// no packet meets a mixture of rules and identities that neither the old nor
// the new state means. The last step is the snapshot's own state.
func plan(before memory, s state.Snapshot, assign func(old map[netip.Prefix]model.IdentityID, want []netip.Prefix) map[netip.Prefix]model.IdentityID,
	prefixesOf func([]model.Policy) []netip.Prefix,
) []step {
	wanted := prefixesOf(s.Policies)
	all := assign(before.prefixes, append(keys(before.prefixes), wanted...))
	final := make(map[netip.Prefix]model.IdentityID, len(wanted))
	for _, p := range wanted {
		final[p] = all[p]
	}

	var steps []step
	if before.policies != nil && len(all) > len(before.prefixes) {
		steps = append(steps, step{policies: before.policies, universe: all, reachable: all})
	}
	if !maps.Equal(all, final) {
		steps = append(steps,
			step{policies: s.Policies, universe: all, reachable: all},
			step{policies: s.Policies, universe: all, reachable: final})
	}
	return append(steps, step{policies: s.Policies, universe: final, reachable: final})
}

func keys(m map[netip.Prefix]model.IdentityID) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	return out
}
