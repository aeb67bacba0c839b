// SPDX-License-Identifier: Apache-2.0

package l7

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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

// up gives a device its addresses and brings it up.
func up(name string, addrs ...string) (netlink.Link, error) {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	// While its link-local address is tried, for a second, the host asks for no neighbour.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0); err != nil {
		return nil, err
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(dev, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
	return dev, netlink.LinkSetUp(dev)
}
