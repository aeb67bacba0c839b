// SPDX-License-Identifier: Apache-2.0

package speed

import (
	"net/netip"
	"os"
	"testing"

	"github.com/weftmesh/weft/pkg/model"
	"github.com/weftmesh/weft/pkg/podnet"
	"github.com/weftmesh/weft/tests/sandbox"
)

// Ports that servers listen at.
const (
	echoPort = 9000
	sinkPort = 9001
)

// pair is a client and a server, each in a namespace, and whoever joins them.
type pair struct {
	client, server *sandbox.NS
	server4        netip.Addr
	server6        netip.Addr
	group          string // cgroup of the client
}

// plainHost is a host of its own with two pods, wired exactly as Weft wires pods,
// but nothing is attached to their devices: the kernel routes.
type plainHost struct {
	pair
	host *sandbox.NS
}

func newPlainHost(tb testing.TB, label string) *plainHost {
	tb.Helper()
	host, err := sandbox.NewNS(label)
	ok(tb, err)
	tb.Cleanup(func() { _ = host.Close() })
	ok(tb, host.Do(func() error {
		for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	}))
	p := &plainHost{host: host}
	p.client = p.pod(tb, 1)
	p.server = p.pod(tb, 2)
	p.server4, p.server6 = plainAddrs(2)
	return p
}

func plainAddrs(i byte) (v4, v6 netip.Addr) {
	return netip.AddrFrom4([4]byte{10, 245, 0, i}), netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x10, 0x02, 0x45, 15: i})
}

// plainSpec is the wire of the pod with that number.
func plainSpec(i byte) podnet.Spec {
	spec := podnet.Spec{IfName: "eth0", HostIfName: name("weft0000000", i), MTU: 1500,
		MAC: model.MAC{2, 0, 0, 0, 1, i}, HostMAC: model.MAC{2, 0, 0, 0, 2, i}}
	spec.IPv4, spec.IPv6 = plainAddrs(i)
	return spec
}

func (p *plainHost) pod(tb testing.TB, i byte) *sandbox.NS {
	tb.Helper()
	ns, err := sandbox.NewNS(name(p.host.Name, "-", i))
	ok(tb, err)
	tb.Cleanup(func() { _ = ns.Close() })
	spec := plainSpec(i)
	ok(tb, p.host.Do(func() error {
		if _, err := podnet.Create(ns.Path, spec); err != nil {
			return err
		}
		if err := podnet.EnsureHost(spec); err != nil {
			return err
		}
		return podnet.SetUpPod(ns.Path, spec)
	}))
	return ns
}

// serve starts the servers of a pair, on the client's CPU: a partner on another one
// would have to be woken, which takes ten times as long as all else and varies.
func (p *pair) serve(tb testing.TB) {
	tb.Helper()
	serveAt(tb, p.server, order{Kind: kindEcho, At: at(netip.IPv4Unspecified(), echoPort), CPU: 1})
	serveAt(tb, p.server, order{Kind: kindSink, At: at(netip.IPv4Unspecified(), sinkPort), CPU: 1})
}

// conversation is a kind of traffic that is measured, and its figure.
type conversation struct {
	kind, name, unit string
	port             uint16
	scale            float64 // from what a client tells
}

func conversations() []conversation {
	return []conversation{
		{kindRequest, "request_p50", "us", echoPort, 1e-3},
		{kindConnect, "connect_request_p50", "us", echoPort, 1e-3},
		{kindStream, "stream", "Gbit/s", sinkPort, 8e-9},
	}
}

// measure has the client of a pair speak with its server for one round.
func (c conversation) measure(tb testing.TB, p *pair) float64 {
	tb.Helper()
	return measure(tb, p.client, p.group, order{Kind: c.kind, At: at(p.server4, c.port), CPU: 1, For: trafficTime})
}
