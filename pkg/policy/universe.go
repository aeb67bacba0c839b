// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weftmesh/weft/pkg/model"
)

// element is an identity that may be a peer.
type element struct {
	id     model.IdentityID
	labels model.Labels
	prefix netip.Prefix // of node-local identities and of the world
	round  uint64       // of a node-local one: last in which it was given
}

// universe holds the identities, and for each distinct peer that rules name the
// identities that it means, kept up to date element by element.
type universe struct {
	elements map[model.IdentityID]*element
	having   map[keyValue]map[model.IdentityID]*element // by each label
	peers    map[string]*peerSet
	cluster  []model.Identity // given last, sorted by number
	local    map[model.IdentityID]*element
}

// keyValue is a label of any source.
type keyValue struct{ key, value string }

// peerSet is what one peer of rules means.
type peerSet struct {
	peer    model.Peer
	entity  entity // of peer.Entity
	any     bool   // everybody; members is then empty
	members []model.IdentityID
	round   uint64 // last one in which members changed
	users   int    // rules that name it
}

func newUniverse() *universe {
	u := &universe{
		elements: map[model.IdentityID]*element{},
		having:   map[keyValue]map[model.IdentityID]*element{},
		peers:    map[string]*peerSet{},
		local:    map[model.IdentityID]*element{},
	}
	for id, name := range model.ReservedNames() {
		e := &element{id: id, labels: model.NewLabels(model.Label{Source: model.SourceReserved, Key: name})}
		switch id {
		case model.IdentityWorldIPv4:
			e.prefix = world4()
		case model.IdentityWorldIPv6:
			e.prefix = world6()
		}
		u.add(e)
	}
	return u
}

// sync makes the elements those that are given, and the peer sets follow.
func (u *universe) sync(round uint64, identities []model.Identity, prefixes map[netip.Prefix]model.IdentityID) {
	now := model.SortIdentities(identities)
	gone, came := model.DiffIdentities(u.cluster, now)
	u.cluster = now
	for _, id := range gone {
		if e, ok := u.elements[id.ID]; ok && id.ID.IsCluster() {
			u.remove(round, e)
		}
	}
	for _, id := range came {
		if id.ID.IsCluster() {
			u.put(round, id.ID, id.Labels, netip.Prefix{})
		}
	}
	for prefix, id := range prefixes {
		if id.IsLocal() {
			u.put(round, id, nil, prefix)
			u.local[id] = u.elements[id]
		}
	}
	for id, e := range u.local {
		if e.round != round {
			u.remove(round, e)
			delete(u.local, id)
		}
	}
}

func (u *universe) put(round uint64, id model.IdentityID, labels model.Labels, prefix netip.Prefix) {
	old, ok := u.elements[id]
	if ok && old.prefix == prefix && old.labels.Same(labels) {
		old.round = round
		return
	}
	if ok {
		u.remove(round, old)
	}
	e := &element{id: id, labels: labels, prefix: prefix, round: round}
	u.add(e)
	for _, s := range u.peers {
		if !s.any && s.means(e) {
			s.insert(round, id)
		}
	}
}

func (u *universe) add(e *element) {
	u.elements[e.id] = e
	for _, l := range e.labels {
		k := keyValue{l.Key, l.Value}
		if u.having[k] == nil {
			u.having[k] = map[model.IdentityID]*element{}
		}
		u.having[k][e.id] = e
	}
}

func (u *universe) remove(round uint64, e *element) {
	delete(u.elements, e.id)
	for _, l := range e.labels {
		k := keyValue{l.Key, l.Value}
		if delete(u.having[k], e.id); len(u.having[k]) == 0 {
			delete(u.having, k)
		}
	}
	for _, s := range u.peers {
		if i, found := slices.BinarySearch(s.members, e.id); found {
			s.members = slices.Delete(s.members, i, i+1)
			s.round = round
		}
	}
}

func (s *peerSet) insert(round uint64, id model.IdentityID) {
	i, found := slices.BinarySearch(s.members, id)
	if !found {
		s.members = slices.Insert(s.members, i, id)
		s.round = round
	}
}

// use finds or makes the set of a peer; release gives it back.
func (u *universe) use(round uint64, peer model.Peer) *peerSet {
	key := peerKey(peer)
	s, ok := u.peers[key]
	if !ok {
		s = &peerSet{peer: peer, any: peer.Any, round: round}
		if peer.Entity != "" {
			s.entity, _ = entityOf(peer.Entity)
			s.any = s.entity.any
		}
		if !s.any {
			u.fill(s)
		}
		u.peers[key] = s
	}
	s.users++
	return s
}

// fill finds a new set's members.
func (u *universe) fill(s *peerSet) {
	for _, e := range u.candidates(s.peer.Selector) {
		if s.means(e) {
			s.members = append(s.members, e.id)
		}
	}
	slices.Sort(s.members)
}

// candidates are elements among which all are that a selector matches: those
// with the rarest of the labels that it asks for, or all elements.
func (u *universe) candidates(sel *model.Selector) map[model.IdentityID]*element {
	best := u.elements
	if sel == nil {
		return best
	}
	for _, r := range sel.Requirements {
		if r.Operator == model.OpIn && len(r.Values) == 1 {
			if some := u.having[keyValue{r.Key, r.Values[0]}]; len(some) < len(best) {
				best = some
			}
		}
	}
	return best
}

func (u *universe) release(s *peerSet) {
	if s.users--; s.users == 0 {
		delete(u.peers, peerKey(s.peer))
	}
}

// means tells whether the peer, not everybody, covers an identity.
func (s *peerSet) means(e *element) bool {
	switch {
	case s.peer.Selector != nil:
		if !e.id.IsCluster() && !(e.id.IsReserved() && wantsReserved(s.peer.Selector)) {
			return false
		}
		return Matches(*s.peer.Selector, e.labels)
	case s.peer.Entity != "":
		switch {
		case e.id.IsCluster():
			return s.entity.cluster
		case e.id.IsLocal():
			return s.entity.local4 && e.prefix.Addr().Is4() || s.entity.local6 && e.prefix.Addr().Is6()
		}
		return slices.Contains(s.entity.reserved, e.id)
	case s.peer.CIDR.IsValid():
		if !e.prefix.IsValid() || !covers(s.peer.CIDR, e.prefix) {
			return false
		}
		return !slices.ContainsFunc(s.peer.Except, func(x netip.Prefix) bool { return covers(x, e.prefix) })
	}
	return false
}

// peerKey is equal for peers that mean the same by their form.
func peerKey(p model.Peer) string {
	switch {
	case p.Any:
		return "any"
	case p.Entity != "":
		return "entity " + p.Entity
	case p.Selector != nil:
		var b strings.Builder
		b.WriteString("selector")
		for _, r := range p.Selector.Requirements {
			fmt.Fprintf(&b, " %q %q %d %q", r.Source, r.Key, r.Operator, r.Values)
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString("cidr " + p.CIDR.String())
	for _, x := range p.Except {
		b.WriteString(" " + x.String())
	}
	return b.String()
}
