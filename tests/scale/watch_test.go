// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package scale

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/pkg/datapath/fake"
	"github.com/weftmesh/weft/pkg/model"
)

// wire counts the bytes of a node's connections with the API server, encryption and
// all.
type wire struct{ read, written atomic.Int64 }

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &counted{Conn: c, wire: w}, nil
}

type counted struct {
	net.Conn
	wire *wire
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.read.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wire.written.Add(int64(n))
	return n, err
}

// kernel is a node's datapath in memory, which tells of addresses that arrive.
type kernel struct {
	*fake.Datapath
	seen *arrivals
}

// ApplyIPs notes what has been written.
func (k *kernel) ApplyIPs(upsert []model.IPRow, remove []netip.Prefix) error {
	if err := k.Datapath.ApplyIPs(upsert, remove); err != nil {
		return err
	}
	k.seen.note(upsert)
	return nil
}

// arrivals follow addresses from the kernel of their own node to those of all others.
type arrivals struct {
	mu      sync.Mutex
	waiting map[netip.Prefix]*arrival
}

type arrival struct {
	committed time.Time // in the kernel of its own node
	last      time.Time // in the last other one
	left      int
	done      chan struct{} // closes when the last one has it
}

func newArrivals() *arrivals { return &arrivals{waiting: make(map[netip.Prefix]*arrival)} }

// expect follows an address that is to come to so many other nodes.
func (a *arrivals) expect(addr netip.Addr, others int) *arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &arrival{left: others, done: make(chan struct{})}
	a.waiting[netip.PrefixFrom(addr, addr.BitLen())] = w
	return w
}

func (a *arrivals) note(rows []model.IPRow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range rows {
		w := a.waiting[r.Prefix]
		switch {
		case w == nil:
			continue
		case r.Slot != 0:
			w.committed = time.Now()
			continue
		}
		if w.left--; w.left == 0 {
			w.last = time.Now()
			delete(a.waiting, r.Prefix)
			close(w.done)
		}
	}
}
