// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
)

// others are the pods of other nodes as their slices tell them, kept from one
// compilation to the next: only slices that are others than before are read, as each
// change of a pod anywhere in the cluster comes by here. The outcome is that of reading
// everything anew, which tests hold against it.
type others struct {
	dir    *directory
	rivals map[netip.Addr][]claim // claims that do not count, to addresses that several claim
	slices map[string]*model.NodeSlice
	nodes  []model.ClusterNode
	ranges map[string][]netip.Prefix // of nodes
	ids    known
	// unknown are addresses whose endpoint has an identity that sets do not know.
	unknown map[netip.Addr]bool
	ports   portCounts

	edit    *directoryEdit
	touched map[netip.Addr]bool // whose claims may have changed
}

func newOthers() *others {
	return &others{dir: &directory{}, rivals: make(map[netip.Addr][]claim), slices: make(map[string]*model.NodeSlice),
		unknown: make(map[netip.Addr]bool), ports: newPortCounts()}
}

// kernelIP tells what the kernel has for an address.
type kernelIP = func(netip.Prefix) (model.IPRow, bool)

// update reads a snapshot and lists the addresses that lead elsewhere than before.
func (o *others) update(node Node, s state.Snapshot, ids known, applied kernelIP) (changed []netip.Addr) {
	before := o.dir
	o.edit, o.touched = before.edit(), make(map[netip.Addr]bool, len(o.unknown))
	for a := range o.unknown {
		o.touched[a] = true
	}
	o.readNodes(s)
	o.readSlices(node, s.NodeSlices)
	o.forget(ids)
	for a := range o.touched {
		if o.settle(a, before, applied) {
			changed = append(changed, a)
		}
	}
	if len(o.touched) > 0 {
		o.dir = o.edit.done()
	}
	o.edit, o.touched = nil, nil
	return changed
}

// readNodes begins anew if nodes have changed: their ranges decide about claims.
func (o *others) readNodes(s state.Snapshot) {
	if sameNodes(s.Nodes, o.nodes) {
		return
	}
	o.nodes, o.ranges = s.Nodes, rangesOf(s)
	o.edit.each(func(w *owner) { o.touched[w.addr] = true })
	o.edit = (&directory{}).edit()
	clear(o.rivals)
	clear(o.slices)
}

// sameNodes tells whether two lists of a snapshot are the same in memory.
func sameNodes(a, b []model.ClusterNode) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// readSlices takes in what slices of other nodes say now. What a slice points to
// never changes, so one with the same endpoints in memory is the same.
func (o *others) readSlices(node Node, now []model.NodeSlice) {
	there := make(map[string]bool, len(now))
	for i := range now {
		s := &now[i]
		if s.Node == node.Name {
			continue
		}
		there[s.Name] = true
		old := o.slices[s.Name]
		if old != nil && sameSlice(old, s) {
			continue
		}
		o.remove(old)
		kept := *s // the list that s is in is not to be held on to
		o.slices[s.Name] = &kept
		o.add(node, &kept)
	}
	if len(there) == len(o.slices) {
		return
	}
	for name, s := range o.slices {
		if !there[name] {
			o.remove(s)
			delete(o.slices, name)
		}
	}
}

func sameSlice(a, b *model.NodeSlice) bool {
	return a.Node == b.Node && len(a.Endpoints) == len(b.Endpoints) &&
		(len(a.Endpoints) == 0 || &a.Endpoints[0] == &b.Endpoints[0])
}

// eachClaim calls do with every address that a slice claims.
func eachClaim(s *model.NodeSlice, do func(netip.Addr, claim)) {
	for i := range s.Endpoints {
		for _, a := range []netip.Addr{s.Endpoints[i].IPv4, s.Endpoints[i].IPv6} {
			if a.IsValid() {
				do(a, claim{s, uint32(i)})
			}
		}
	}
}

func (o *others) add(node Node, s *model.NodeSlice) {
	eachClaim(s, func(a netip.Addr, c claim) {
		if !may(node, s.Node, a, o.ranges) {
			return
		}
		o.touched[a] = true
		had, taken := o.edit.find(a)
		switch {
		case !taken:
			o.edit.set(owner{addr: a, claim: c})
		case better(a, c, had.claim, o.ranges):
			o.rivals[a] = append(o.rivals[a], had.claim)
			o.edit.set(owner{addr: a, claim: c})
		default:
			o.rivals[a] = append(o.rivals[a], c)
		}
	})
}

func (o *others) remove(s *model.NodeSlice) {
	if s == nil {
		return
	}
	eachClaim(s, func(a netip.Addr, c claim) {
		if left := slices.DeleteFunc(o.rivals[a], func(r claim) bool { return r == c }); len(left) > 0 {
			o.rivals[a] = left
		} else {
			delete(o.rivals, a)
		}
		if had, taken := o.edit.find(a); taken && had.claim == c {
			o.touched[a] = true
			o.succeed(a)
		}
	})
}

// succeed gives an address to the best of those who claim it too.
func (o *others) succeed(a netip.Addr) {
	rivals := o.rivals[a]
	if len(rivals) == 0 {
		o.edit.drop(a)
		return
	}
	best := 0
	for i := range rivals {
		if better(a, rivals[i], rivals[best], o.ranges) {
			best = i
		}
	}
	o.edit.set(owner{addr: a, claim: rivals[best]})
	if len(rivals) == 1 {
		delete(o.rivals, a)
		return
	}
	o.rivals[a] = slices.Delete(rivals, best, best+1)
}

// forget looks at every address again that leads to an identity which sets do not
// know any more.
func (o *others) forget(ids known) {
	gone, _ := model.DiffIdentities(o.ids, ids)
	o.ids = ids
	lost := make(map[model.IdentityID]bool)
	for _, id := range gone {
		if !ids.has(id.ID) {
			lost[id.ID] = true
		}
	}
	if len(lost) == 0 {
		return
	}
	o.edit.each(func(w *owner) {
		if lost[w.endpoint().Identity] || lost[w.identity] {
			o.touched[w.addr] = true
		}
	})
}

// settle says what an address whose claims may have changed leads to, and whether
// that is another identity than before. While sets do not know the identity of its
// endpoint it is the one that the kernel has, or none: to lead it to a number that sets
// do not know would let it slip past their denies.
func (o *others) settle(a netip.Addr, before *directory, applied kernelIP) bool {
	var was, is owner
	if w, ok := before.find(a); ok {
		was = *w
	}
	delete(o.unknown, a)
	if w, ok := o.edit.find(a); ok {
		is = *w
		if is.identity = is.endpoint().Identity; is.identity != model.IdentityUnmanaged && !o.ids.has(is.identity) {
			o.unknown[a] = true
			is.identity = lastIdentity(*is.endpoint(), o.ids, applied)
		}
		if w.identity != is.identity {
			o.edit.set(is)
		}
	}
	o.ports.move(was, is)
	return was.identity != is.identity
}
