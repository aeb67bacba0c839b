// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

// addrs are the pod's addresses, so that a scenario runs over both families.
func addrs(p *sandbox.Pod) []netip.Addr { return []netip.Addr{p.IPv4, p.IPv6} }

func hostPort(a netip.Addr, port uint16) string {
	return net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
}

// serve answers TCP and UDP on a port of the pod until the test ends.
func serve(t *testing.T, p *sandbox.Pod, port uint16) *sandbox.Echo {
	t.Helper()
	e, err := sandbox.StartEcho(p.NS, p.Name, port)
	ok(t, err)
	t.Cleanup(e.Close)
	return e
}

// reaches fails unless a new connection gets its answer.
func reaches(t *testing.T, from *sandbox.NS, network string, to netip.Addr, port uint16) {
	t.Helper()
	if _, err := sandbox.Ask(from, network, hostPort(to, port), "hello", answer); err != nil {
		t.Errorf("%s does not reach %s port %d over %s: %v", from.Name, to, port, network, err)
	}
}

// blocked fails if a new connection gets an answer.
func blocked(t *testing.T, from *sandbox.NS, network string, to netip.Addr, port uint16) {
	t.Helper()
	if got, err := sandbox.Ask(from, network, hostPort(to, port), "hello", silence); err == nil {
		t.Errorf("%s reaches %s port %d over %s and hears %q", from.Name, to, port, network, got)
	}
}

func pings(t *testing.T, from *sandbox.NS, to netip.Addr) {
	t.Helper()
	if err := sandbox.Ping(from, to.String(), answer); err != nil {
		t.Errorf("%s does not reach %s by ping: %v", from.Name, to, err)
	}
}

func noPing(t *testing.T, from *sandbox.NS, to netip.Addr) {
	t.Helper()
	if sandbox.Ping(from, to.String(), silence) == nil {
		t.Errorf("%s reaches %s by ping", from.Name, to)
	}
}

// onBoth runs a scenario for the addresses of each family.
func onBoth(t *testing.T, run func(t *testing.T, family int)) {
	t.Helper()
	for i, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) { run(t, i) })
	}
}

// deadline is the end of a span of time that begins now.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }
