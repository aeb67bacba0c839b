// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// portCounts are the named ports that pods of other nodes have, by identity. A port
// is counted for each address, so that it goes with the last one.
type portCounts struct {
	counts map[model.IdentityID]map[model.NamedPort]int
	lists  map[model.IdentityID][]model.NamedPort // of counts, sorted; never changed
}

func newPortCounts() portCounts {
	return portCounts{counts: make(map[model.IdentityID]map[model.NamedPort]int),
		lists: make(map[model.IdentityID][]model.NamedPort)}
}

// move takes an address from one claim that it had to another; either may lead to no
// identity.
func (c *portCounts) move(was, is owner) {
	before, now := portsAt(was), portsAt(is)
	if was.identity == is.identity && slices.Equal(before, now) {
		return
	}
	c.count(was.identity, before, -1)
	c.count(is.identity, now, 1)
	if len(before) > 0 {
		c.list(was.identity)
	}
	if len(now) > 0 {
		c.list(is.identity)
	}
}

func portsAt(o owner) []model.NamedPort {
	if o.identity == model.IdentityNone {
		return nil
	}
	return o.endpoint().Ports
}

func (c *portCounts) count(id model.IdentityID, ports []model.NamedPort, by int) {
	for _, p := range ports {
		n := c.counts[id]
		if n == nil {
			n = make(map[model.NamedPort]int)
			c.counts[id] = n
		}
		if n[p] += by; n[p] == 0 {
			delete(n, p)
		}
	}
}

func (c *portCounts) list(id model.IdentityID) {
	n := c.counts[id]
	if len(n) == 0 {
		delete(c.counts, id)
		delete(c.lists, id)
		return
	}
	c.lists[id] = slices.SortedFunc(maps.Keys(n), comparePorts)
}

func comparePorts(a, b model.NamedPort) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// portsByIdentity gathers the named ports of all pods, also of other nodes, by their
// identity, each once and sorted.
func portsByIdentity(identityOf identityFinder, pods []model.Pod, others *portCounts) map[model.IdentityID][]model.NamedPort {
	own := make(map[model.IdentityID][]model.NamedPort)
	for _, p := range pods {
		if len(p.Ports) == 0 || p.HostNetwork {
			continue
		}
		if id, ok := identityOf(p); ok {
			own[id.ID] = append(own[id.ID], p.Ports...)
		}
	}
	out := maps.Clone(others.lists)
	for id, ports := range own {
		ports = append(ports, out[id]...)
		slices.SortFunc(ports, comparePorts)
		out[id] = slices.Compact(ports)
	}
	return out
}
