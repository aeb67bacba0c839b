// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/policy"
	"github.com/weftmesh/weft/pkg/policy/reference"
)

// World is a random node: pods with identities, and policies, of which nothing is
// compiled yet but the numbers of their prefixes.
type World struct {
	In    policy.Inputs
	Pods  []reference.Party // with the identity MinClusterIdentity + index
	Rows  []model.IPRow     // of addresses that are no pod's
	Local policy.Locals
}

// NewWorld draws a world. before are the numbers that prefixes had, cluster the
// ranges in which an unknown address is not the world.
func NewWorld(t *rapid.T, before policy.Locals, cluster []netip.Prefix) World {
	var w World
	w.In.Ports = map[model.IdentityID][]model.NamedPort{}
	for i := range Pick(t, "pods", 1, 2, 3, 4, 5, 6) {
		labels, ports := Pod(t)
		id := model.MinClusterIdentity + model.IdentityID(i)
		w.Pods = append(w.Pods, reference.Party{Labels: labels, Ports: ports})
		w.In.Identities = append(w.In.Identities, model.Identity{ID: id, Labels: labels})
		w.In.Subjects = append(w.In.Subjects, policy.Subject{Identity: id, Labels: labels, Ports: ports})
		if len(ports) > 0 {
			w.In.Ports[id] = ports
		}
	}
	if rapid.Bool().Draw(t, "objects") {
		w.In.Policies = FromObjects(t)
	} else {
		w.In.Policies = Policies(t)
	}
	local, err := before.Update(policy.Prefixes(w.In.Policies))
	if err != nil {
		t.Fatal(err)
	}
	w.Local, w.In.Prefixes = local, local.IDs()
	w.Rows = policy.IPRows(local.IDs(), cluster)
	return w
}

// Lookup is what the kernel does with a set, in plain words: longest match under
// the peer and under everybody; the higher precedence, at a tie the peer's.
func Lookup(entries []model.PolicyEntry, d model.Direction, peer model.IdentityID, proto uint8, port uint16) model.PolicyEntry {
	a := longest(entries, d, peer, proto, port)
	b := longest(entries, d, model.IdentityNone, proto, port)
	if b.Precedence > a.Precedence {
		return b
	}
	return a
}

func longest(entries []model.PolicyEntry, d model.Direction, peer model.IdentityID, proto uint8, port uint16) model.PolicyEntry {
	var best model.PolicyEntry
	length := -1
	for _, e := range entries {
		if e.Direction != d || e.Peer != peer {
			continue
		}
		n := 0
		if e.Protocol != 0 {
			n = 8 + int(e.PortBits)
			shift := 16 - e.PortBits
			if e.Protocol != proto || e.Port>>shift != port>>shift {
				continue
			}
		}
		if n > length {
			best, length = e, n
		}
	}
	return best
}

// IdentityOf is what the kernel takes an address for that no pod has.
func IdentityOf(rows []model.IPRow, addr netip.Addr) model.IdentityID {
	var id model.IdentityID
	bits := -1
	for _, r := range rows {
		if r.Prefix.Contains(addr) && r.Prefix.Bits() > bits {
			id, bits = r.Identity, r.Prefix.Bits()
		}
	}
	return id
}

// Bounds are ports at and beside the ends of all ranges that the policies name,
// and those behind names.
func Bounds(policies []model.Policy) []uint16 {
	out := []uint16{0, 53, 80, 81, 1000, 65535}
	for _, p := range policies {
		for _, r := range p.Rules {
			for _, q := range r.Ports {
				out = append(out, q.First-1, q.First, q.Last, q.Last+1)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
