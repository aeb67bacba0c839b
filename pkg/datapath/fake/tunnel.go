// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// tunnelRows is what the kernel knows of the tunnel.
type tunnelRows struct {
	device model.TunnelDevice
	nodes  map[uint16]model.NodeRow
	known  map[model.IdentityID]bool
}

func newTunnelRows() tunnelRows {
	return tunnelRows{nodes: make(map[uint16]model.NodeRow), known: make(map[model.IdentityID]bool)}
}

// SetTunnel keeps the device.
func (d *Datapath) SetTunnel(dev model.TunnelDevice) error {
	return d.write(func() error {
		if d.tunnel.device != dev {
			d.writes++
		}
		d.tunnel.device = dev
		return nil
	})
}

// Tunnel is the device, without its name, as the kernel has none.
func (d *Datapath) Tunnel() (model.TunnelDevice, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return model.TunnelDevice{Index: d.tunnel.device.Index, MTU: d.tunnel.device.MTU}, nil
}

// ApplyNodes keeps and forgets nodes. Unlike the kernel, it refuses two nodes with
// one end of the tunnel, so that tests see a wrong order.
func (d *Datapath) ApplyNodes(upsert []model.NodeRow, remove []uint16) error {
	return d.write(func() error {
		for _, n := range upsert {
			for _, other := range d.tunnel.nodes {
				if other.Number != n.Number && n.Outer.IsValid() && other.Outer == n.Outer &&
					!slices.Contains(remove, other.Number) {
					return fmt.Errorf("nodes %d and %d both have the end %s", other.Number, n.Number, n.Outer)
				}
			}
			if d.tunnel.nodes[n.Number] != n {
				d.writes++
			}
			d.tunnel.nodes[n.Number] = n
		}
		for _, number := range remove {
			delete(d.tunnel.nodes, number)
		}
		return nil
	})
}

// Nodes is the nodes by number.
func (d *Datapath) Nodes() ([]model.NodeRow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.tunnel.nodes), func(a, b model.NodeRow) int {
		return cmp.Compare(a.Number, b.Number)
	}), nil
}

// ApplyIdentities keeps and forgets identities.
func (d *Datapath) ApplyIdentities(upsert, remove []model.IdentityID) error {
	return d.write(func() error {
		for _, id := range upsert {
			if !d.tunnel.known[id] {
				d.writes++
			}
			d.tunnel.known[id] = true
		}
		for _, id := range remove {
			delete(d.tunnel.known, id)
		}
		return nil
	})
}

// Identities is the identities in order.
func (d *Datapath) Identities() ([]model.IdentityID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.tunnel.known)), nil
}
