// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// ErrNoIdentities tells that every node-local identity is in use.
var ErrNoIdentities = errors.New("no node-local identity is free for another prefix; use fewer prefixes in policies")

// Prefixes lists every prefix that the policies name, also as exceptions, each
// once and sorted. The prefixes of length 0 are left out: they are the world.
func Prefixes(policies []model.Policy) []netip.Prefix {
	seen := map[netip.Prefix]struct{}{}
	add := func(p netip.Prefix) {
		if p.IsValid() && p.Bits() > 0 {
			seen[p.Masked()] = struct{}{}
		}
	}
	for i := range policies {
		for j := range policies[i].Rules {
			for _, peer := range policies[i].Rules[j].Peers {
				add(peer.CIDR)
				for _, e := range peer.Except {
					add(e)
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), ComparePrefixes)
}

// ComparePrefixes orders prefixes by family, address and length.
func ComparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Locals is the table of node-local identities: which prefix has which. It is a
// value: Update answers with a new one.
type Locals struct {
	ids map[netip.Prefix]model.IdentityID
}

// NewLocals adopts identities that are in use, such as those an earlier agent
// left in the kernel.
func NewLocals(known map[netip.Prefix]model.IdentityID) Locals {
	return Locals{ids: maps.Clone(known)}
}

// IDs is the identity of each prefix. It must not be changed.
func (l Locals) IDs() map[netip.Prefix]model.IdentityID { return l.ids }

// Update gives each wanted prefix an identity and forgets the others. A prefix
// that stays keeps its number. A new one takes the number that its hash names,
// or the next free one: so a fresh agent comes to the same numbers, short of a
// collision in 24 bits.
func (l Locals) Update(want []netip.Prefix) (Locals, error) {
	next := make(map[netip.Prefix]model.IdentityID, len(want))
	used := make(map[model.IdentityID]struct{}, len(want))
	var fresh []netip.Prefix
	want = slices.SortedFunc(slices.Values(want), ComparePrefixes)
	for _, p := range slices.Compact(want) {
		id, ok := l.ids[p]
		_, named := next[p]
		_, twice := used[id]
		switch {
		case named || !p.IsValid() || p.Bits() == 0:
		case ok && !twice && id.IsLocal():
			next[p], used[id] = id, struct{}{}
		default:
			fresh = append(fresh, p)
		}
	}
	if len(next)+len(fresh) > int(model.MaxLocalIdentity-model.MinLocalIdentity)+1 {
		return l, ErrNoIdentities
	}
	for _, p := range fresh {
		id := localHash(p)
		for _, taken := used[id]; taken; _, taken = used[id] {
			if id++; id > model.MaxLocalIdentity {
				id = model.MinLocalIdentity
			}
		}
		next[p], used[id] = id, struct{}{}
	}
	return Locals{ids: next}, nil
}

// localHash is the identity that a prefix has if nobody else wants it.
func localHash(p netip.Prefix) model.IdentityID {
	sum := sha256.Sum256([]byte(p.String()))
	span := uint32(model.MaxLocalIdentity-model.MinLocalIdentity) + 1
	return model.MinLocalIdentity + model.IdentityID(binary.BigEndian.Uint32(sum[:])%span)
}

// IPRows says which identity addresses have that are no endpoint's and no
// host's: those of policies' prefixes, the world, and in the cluster's own
// ranges unknown. A prefix of a policy inside such a range gets no row: what is
// not known there is never taken for the world. Endpoints' and hosts' rows win
// over a row here with the same prefix.
func IPRows(locals map[netip.Prefix]model.IdentityID, cluster []netip.Prefix) []model.IPRow {
	rows := []model.IPRow{
		{Prefix: world4(), Identity: model.IdentityWorldIPv4},
		{Prefix: world6(), Identity: model.IdentityWorldIPv6},
	}
	for p, id := range locals {
		inside := slices.ContainsFunc(cluster, func(c netip.Prefix) bool { return covers(c, p) })
		if !inside {
			rows = append(rows, model.IPRow{Prefix: p, Identity: id})
		}
	}
	for _, c := range cluster {
		rows = append(rows, model.IPRow{Prefix: c.Masked(), Identity: model.IdentityUnknown})
	}
	slices.SortFunc(rows, func(a, b model.IPRow) int { return ComparePrefixes(a.Prefix, b.Prefix) })
	return slices.CompactFunc(rows, func(a, b model.IPRow) bool { return a.Prefix == b.Prefix })
}

func world4() netip.Prefix { return netip.PrefixFrom(netip.IPv4Unspecified(), 0) }
func world6() netip.Prefix { return netip.PrefixFrom(netip.IPv6Unspecified(), 0) }

// covers tells whether every address of q is in p.
func covers(p, q netip.Prefix) bool {
	return p.Bits() <= q.Bits() && p.Contains(q.Addr())
}
