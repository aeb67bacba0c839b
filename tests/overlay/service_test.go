// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/tests/sandbox"
)

// Packets that bear a service's address, of sockets that no program sees, reach a
// backend behind the tunnel, and its answers bear the service's address again.
func TestServicesOfPacketsReachBackendsBehindTheTunnel(t *testing.T) {
	mount, err := cgroup.FindMount()
	ok(t, err)
	nobody := filepath.Join(mount, "nobody")
	ok(t, os.Mkdir(nobody, 0o755))
	t.Cleanup(func() { ok(t, os.Remove(nobody)) })
	c := &cluster{T: t, cgroup: nobody}
	c.build(2)
	client, server := c.nodes[0].pod(300), c.nodes[1].pod(301)
	server.serve(8080)
	onBoth(t, func(t *testing.T, family int) {
		front := []string{"10.96.0.1", "fd00:96::1"}[family]
		for i, proto := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			id := uint32(1 + 2*family + i)
			backend := model.BackendRow{ID: id, Addr: server.addrs[family], Port: 8080, Protocol: proto}
			key := model.FrontendKey{Addr: netip.MustParseAddr(front), Port: 80, Protocol: proto}
			dp := c.nodes[0].dp
			ok(t, errors.Join(dp.ApplyBackends([]model.BackendRow{backend}),
				dp.ApplySlots(model.SlotTable{Service: id, Backends: []uint32{id}}),
				dp.ApplyFrontends([]model.FrontendRow{{FrontendKey: key, Service: id, Slots: 1}})))
		}
		for _, network := range []string{"tcp", "udp"} {
			conn, err := client.ns.Dial(network, hostPort(netip.MustParseAddr(front), 80), soon)
			ok(t, err)
			defer conn.Close()
			for range 3 {
				if got, err := sandbox.AskOn(conn, "hello", soon); err != nil || got != "pod hello" {
					t.Errorf("%s: %q, %v", network, got, err)
				}
			}
		}
	})
}
