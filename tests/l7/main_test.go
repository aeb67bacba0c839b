// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/tests/sandbox"
)

func TestMain(m *testing.M) { sandbox.Main(m) }

// Deadlines are generous: they tell a hang from a slow machine.
const (
	soon   = 20 * time.Second
	atOnce = 2 * time.Second // far less than a client waits with nobody to tell it
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
