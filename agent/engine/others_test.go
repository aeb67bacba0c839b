// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/state"
	"github.com/weftmesh/weft/pkg/tunnel"
	"github.com/weftmesh/weft/tests/level"
)

// claimed is who claims an address, as read from every slice.
type claimed struct {
	node, slice string
	at          int
	endpoint    model.NodeEndpoint
}

// winners answers for every address by reading all slices: the plain reference for
// what others keep.
func winners(node Node, s state.Snapshot) map[netip.Addr]claimed {
	ranges := make(map[string][]netip.Prefix)
	for _, n := range s.Nodes {
		ranges[n.Name] = n.PodCIDRs
	}
	all := make(map[netip.Addr][]claimed)
	for _, slice := range s.NodeSlices {
		for i, e := range slice.Endpoints {
			for _, a := range []netip.Addr{e.IPv4, e.IPv6} {
				if a.IsValid() && slice.Node != node.Name && may(node, slice.Node, a, ranges) {
					all[a] = append(all[a], claimed{slice.Node, slice.Name, i, e})
				}
			}
		}
	}
	out := make(map[netip.Addr]claimed)
	for a, list := range all {
		key := func(c claimed) string {
			outside := !slices.ContainsFunc(ranges[c.node], func(p netip.Prefix) bool { return p.Contains(a) })
			return fmt.Sprintf("%v %s\x00%s\x00%06d", outside, c.node, c.slice, c.at)
		}
		out[a] = slices.MinFunc(list, func(x, y claimed) int {
			if key(x) < key(y) {
				return -1
			}
			return 1
		})
	}
	return out
}

// inFull is what others, addresses and names are to say, from nothing.
func inFull(node Node, s state.Snapshot, by *overlay, ids known, applied kernelIP, bound []boundEndpoint, prefixes prefixIDs) (
	rows ipRows, names map[netip.Addr]flow.Workload, ports map[model.IdentityID][]model.NamedPort,
) {
	fresh := &addresses{overlay: by, at: by.addresses(s)}
	rows, names, ports = fresh.rowsBelow(node, s, prefixes), make(map[netip.Addr]flow.Workload), make(map[model.IdentityID][]model.NamedPort)
	for a, c := range winners(node, s) {
		id := c.endpoint.Identity
		if !ids.has(id) {
			id = lastIdentity(c.endpoint, ids, applied)
		}
		if id == model.IdentityNone {
			continue
		}
		rows[whole(a)] = fresh.elsewhere(a, id)
		names[a] = flow.Workload{Pod: c.endpoint.Pod, Identity: id, Owner: c.endpoint.Workload}
		if len(c.endpoint.Ports) > 0 {
			ports[id] = append(ports[id], c.endpoint.Ports...)
			slices.SortFunc(ports[id], comparePorts)
			ports[id] = slices.Compact(ports[id])
		}
	}
	maps.Copy(rows, rowsAbove(s, bound))
	return rows, names, ports
}

// crowd changes what a cluster of a few nodes says at random: few addresses, so that
// several claim the same, and few identities, so that they come and go in use.
type crowd struct {
	random *rand.Rand
	nodes  map[string]model.ClusterNode
	listed []model.ClusterNode // of nodes; nil: to be made anew
	slices map[string]model.NodeSlice
	ids    map[model.IdentityID]bool
	hosts  []netip.Addr
	bound  map[uint16]boundEndpoint
	kernel map[netip.Prefix]model.IPRow
	locals prefixIDs
}

func (c *crowd) addr() netip.Addr {
	if c.random.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, 9, byte(c.random.IntN(4)), byte(c.random.IntN(6))})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(c.random.IntN(4)), 15: byte(c.random.IntN(6))})
}

func (c *crowd) id() model.IdentityID { return 300 + model.IdentityID(c.random.IntN(6)) }

func (c *crowd) slice(i int) model.NodeSlice {
	s := model.NodeSlice{Name: fmt.Sprint("slice-", i), Node: fmt.Sprint("node-", c.random.IntN(4))}
	for j := range c.random.IntN(6) {
		e := model.NodeEndpoint{Pod: model.PodKey{Namespace: "demo", Name: fmt.Sprintf("pod-%d-%d", i, j)}, Identity: c.id()}
		for _, a := range []netip.Addr{c.addr(), c.addr()} {
			if a.Is4() {
				e.IPv4 = a
			} else {
				e.IPv6 = a
			}
		}
		for p := range c.random.IntN(3) {
			e.Ports = append(e.Ports, model.NamedPort{Name: fmt.Sprint("p", p), Protocol: 6, Port: uint16(80 + c.random.IntN(2))})
		}
		e.Workload.Name = fmt.Sprint("w-", c.random.IntN(3))
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (c *crowd) change() {
	switch c.random.IntN(12) {
	case 0:
		n := model.ClusterNode{Name: fmt.Sprint("node-", c.random.IntN(4)), Addrs: []netip.Addr{c.addr()}}
		for range c.random.IntN(3) {
			bits := 24
			a := c.addr()
			if a.Is6() {
				bits = 64
			}
			n.PodCIDRs = append(n.PodCIDRs, netip.PrefixFrom(a, bits).Masked())
		}
		c.nodes[n.Name], c.listed = n, nil
	case 1:
		delete(c.nodes, fmt.Sprint("node-", c.random.IntN(4)))
		c.listed = nil
	case 2, 3:
		id := c.id()
		if c.ids[id] {
			delete(c.ids, id)
		} else {
			c.ids[id] = true
		}
	case 4:
		c.hosts = []netip.Addr{c.addr()}
	case 5:
		slot := uint16(1 + c.random.IntN(3))
		c.bound[slot] = boundEndpoint{Endpoint: model.Endpoint{Slot: slot, IPv4: c.addr()}, identity: model.Identity{ID: c.id()}}
		if !c.bound[slot].IPv4.Is4() || c.random.IntN(3) == 0 {
			delete(c.bound, slot)
		}
	case 6:
		p := netip.PrefixFrom(c.addr(), 28).Masked()
		if c.locals[p] = model.MinLocalIdentity + model.IdentityID(c.random.IntN(4)); c.random.IntN(2) == 0 {
			delete(c.locals, p)
		}
	case 7:
		delete(c.slices, fmt.Sprint("slice-", c.random.IntN(6)))
	default:
		s := c.slice(c.random.IntN(6))
		c.slices[s.Name] = s
	}
}

func (c *crowd) snapshot() (s state.Snapshot, ids known) {
	if c.listed == nil {
		for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
			c.listed = append(c.listed, c.nodes[name])
		}
	}
	s.Nodes = c.listed
	for _, name := range slices.Sorted(maps.Keys(c.slices)) {
		s.NodeSlices = append(s.NodeSlices, c.slices[name])
	}
	for _, id := range slices.Sorted(maps.Keys(c.ids)) {
		ids = append(ids, model.Identity{ID: id})
	}
	s.HostAddrs = c.hosts
	return s, ids
}

// What is kept of other nodes' pods, and told of addresses as changes, comes to what
// reading everything anew says.
func TestFollowingOtherNodesComesToReadingThemInFull(t *testing.T) {
	node := Node{Name: "node-0", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/22"), netip.MustParsePrefix("fd00::/61")}}
	for round := range level.Scale(500) {
		c := &crowd{random: rand.New(rand.NewPCG(level.Seed(), uint64(round))), nodes: map[string]model.ClusterNode{},
			slices: map[string]model.NodeSlice{}, ids: map[model.IdentityID]bool{}, bound: map[uint16]boundEndpoint{},
			kernel: map[netip.Prefix]model.IPRow{}, locals: prefixIDs{}}
		applied := func(p netip.Prefix) (model.IPRow, bool) { row, ok := c.kernel[p]; return row, ok }
		o, a, told := newOthers(), newAddresses(), ipRows{}
		node.Tunnel = round%2 == 1
		numbers := tunnel.NewNumbers(nil)
		var last *directory
		var lastNames map[netip.Addr]flow.Workload
		for step := range 60 {
			for range 1 + c.random.IntN(3) {
				c.change()
			}
			s, ids := c.snapshot()
			bound := slices.Collect(maps.Values(c.bound))
			slices.SortFunc(bound, func(a, b boundEndpoint) int { return int(a.Slot) - int(b.Slot) })
			var by *overlay
			if node.Tunnel {
				ends, _ := tunnel.Ends(node.Name, s.HostAddrs, s.Nodes)
				all, err := numbers.Update(ends, func(uint16) bool { return false })
				if err != nil {
					t.Fatal(err)
				}
				by = newOverlay(node, s, ends, all)
			}
			rows, names, ports := inFull(node, s, by, ids, applied, bound, c.locals)
			a.lead(o.update(node, s, ids, applied))
			if c.random.IntN(4) == 0 {
				continue // a compilation that came to nothing: the next tells its changes too
			}
			ch := a.changes(node, s, by, bound, o.dir, c.locals)
			for _, p := range ch.Gone {
				delete(told, p)
			}
			for _, row := range ch.Put {
				told[row.Prefix] = row
			}
			at := fmt.Sprintf("round %d, step %d", round, step)
			if !maps.Equal(told, rows) {
				t.Fatalf("%s: addresses\n got %v\nwant %v", at, told, rows)
			}
			if got := namesOf(o.dir); !reflect.DeepEqual(got, names) {
				t.Fatalf("%s: names\n got %v\nwant %v", at, got, names)
			}
			if got := portsByIdentity(nil, nil, &o.ports); !reflect.DeepEqual(got, ports) {
				t.Fatalf("%s: ports\n got %v\nwant %v", at, got, ports)
			}
			if last != nil && !reflect.DeepEqual(namesOf(last), lastNames) {
				t.Fatalf("%s: the names of the step before have changed", at)
			}
			last, lastNames = o.dir, names
			if c.random.IntN(2) == 0 {
				c.kernel = maps.Clone(told)
			}
		}
	}
}

func namesOf(d *directory) map[netip.Addr]flow.Workload {
	out := make(map[netip.Addr]flow.Workload)
	d.each(func(o *owner) {
		if w, ok := d.Workload(o.addr); ok {
			out[o.addr] = w
		}
	})
	return out
}
