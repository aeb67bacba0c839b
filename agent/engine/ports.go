// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// portCounts are the named ports that pods of other nodes have, by identity. A port
// is counted for each address, so that it goes with the last one.
type portCounts struct {
	said   map[netip.Addr]portsOf
	counts map[model.IdentityID]map[model.NamedPort]int
	lists  map[model.IdentityID][]model.NamedPort // of counts, sorted; never changed
}

type portsOf struct {
	identity model.IdentityID
	ports    []model.NamedPort
}

func newPortCounts() portCounts {
	return portCounts{said: make(map[netip.Addr]portsOf), counts: make(map[model.IdentityID]map[model.NamedPort]int),
		lists: make(map[model.IdentityID][]model.NamedPort)}
}

// set says which identity an address leads to and which ports its pod has.
func (c *portCounts) set(a netip.Addr, id model.IdentityID, ports []model.NamedPort) {
	had, ok := c.said[a]
	if id == model.IdentityNone {
		ports = nil
	}
	if !ok && len(ports) == 0 {
		return
	}
	c.count(had, -1)
	delete(c.said, a)
	if len(ports) > 0 {
		c.said[a] = portsOf{id, ports}
	}
	c.count(c.said[a], 1)
	if had.identity == id && slices.Equal(had.ports, ports) {
		return // the lists are as they were
	}
	c.list(had.identity)
	c.list(id)
}

func (c *portCounts) count(of portsOf, by int) {
	for _, p := range of.ports {
		n := c.counts[of.identity]
		if n == nil {
			n = make(map[model.NamedPort]int)
			c.counts[of.identity] = n
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
