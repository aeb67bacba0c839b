// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/state"
)

// memory is what one compilation leaves for the next: the rules in force, and
// the numbers that prefixes have. The zero value is a start from nothing.
type memory struct {
	policies []model.Policy
	prefixes prefixIDs
}

// step is one state that the kernel is brought to on the way to a revision.
type step struct {
	policies []model.Policy
	// universe are the prefixes that policy sets know of; reachable those that
	// addresses lead to. reachable is a part of universe.
	universe  prefixIDs
	reachable prefixIDs
	running   running
}

// plan lists the steps from what is in force to the snapshot's rules, so that
// no packet meets a mixture of rules and identities that neither the old nor
// the new state means. The last step is the snapshot's own state.
func plan(before memory, s state.Snapshot) ([]step, error) {
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

	var steps []step
	if before.policies != nil && len(all) > len(before.prefixes) {
		steps = append(steps, step{policies: before.policies, universe: all, reachable: all})
	}
	if !maps.Equal(all, final) {
		steps = append(steps,
			step{policies: s.Policies, universe: all, reachable: all},
			step{policies: s.Policies, universe: all, reachable: final})
	}
	return append(steps, step{policies: s.Policies, universe: final, reachable: final}), nil
}

func keys(m prefixIDs) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	return out
}
