// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/reconcile"
	"github.com/weftmesh/weft/pkg/state"
)

// kernelOf answers what a plan for a snapshot asks of the kernel.
type kernelOf struct {
	rec  *reconcile.Reconciler
	snap state.Snapshot
	self string // this node
}

func (k kernelOf) held() map[model.IdentityID]bool {
	out := make(map[model.IdentityID]bool)
	for _, row := range k.rec.AppliedIPs() {
		if row.Identity.IsCluster() {
			out[row.Identity] = true
		}
	}
	for _, id := range k.rec.AppliedIdentities() {
		out[id] = true
	}
	return out
}

func (k kernelOf) moving() bool {
	want := make(map[netip.Prefix]model.IdentityID)
	for i := range k.snap.NodeSlices {
		s := &k.snap.NodeSlices[i]
		if s.Node == k.self {
			continue
		}
		eachClaim(s, func(a netip.Addr, c claim) {
			if id := c.endpoint().Identity; id.IsCluster() {
				want[whole(a)] = id
			}
		})
	}
	same := 0
	for _, row := range k.rec.AppliedIPs() {
		if !row.Identity.IsCluster() {
			continue
		}
		id := want[row.Prefix]
		if row.Slot == 0 && id != row.Identity {
			return true
		}
		if id == row.Identity {
			same++
		}
	}
	return same < len(want)
}
