// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"net/netip"
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

const (
	soon  = 5 * time.Second        // for what must happen
	never = 300 * time.Millisecond // for what must not
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within does f in a network namespace.
func within(t testing.TB, ns *sandbox.NS, f func() error) {
	t.Helper()
	ok(t, ns.Do(f))
}

// onBoth runs a test for IPv4 and IPv6, by the index that addresses are kept under.
func onBoth(t *testing.T, f func(t *testing.T, family int)) {
	for family, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) { f(t, family) })
	}
}

func hostPort(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
