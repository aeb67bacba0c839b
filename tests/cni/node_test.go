// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/agent/nodenet"
	"github.com/weftmesh/weft/pkg/podnet"
)

func TestPodRangesAreUnreachable(t *testing.T) {
	t.Cleanup(func() {
		if err := nodenet.Cleanup(nodenet.CleanupConfig{}); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := nodenet.SetUp([]netip.Prefix{range4, range6}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{range4.String(), range6.String()}
	if got := unreachable(t); !slices.Equal(got, want) {
		t.Errorf("unreachable: %v; want %v", got, want)
	}
	for _, ip := range []net.IP{net.IPv4(10, 17, 0, 200), net.ParseIP("fd17::99")} {
		if _, err := netlink.RouteGet(ip); err == nil || !strings.Contains(err.Error(), "unreachable") && !strings.Contains(err.Error(), "no route") {
			t.Errorf("an address that no pod has, %s, is routed: %v", ip, err)
		}
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if v, err := os.ReadFile("/proc/sys/net/" + key); err != nil || string(v) != "1\n" {
			t.Errorf("%s is %q, %v", key, v, err)
		}
	}
	// Another configuration's ranges do not stay.
	other := netip.MustParsePrefix("10.99.0.0/24")
	if err := nodenet.SetUp([]netip.Prefix{other}); err != nil {
		t.Fatal(err)
	}
	if got := unreachable(t); !slices.Equal(got, []string{other.String()}) {
		t.Errorf("unreachable: %v", got)
	}
}

// unreachable lists our unreachable routes.
func unreachable(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: podnet.RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Type == unix.RTN_UNREACHABLE {
				out = append(out, r.Dst.String())
			}
		}
	}
	return out
}

func TestHostAddressesAreWatched(t *testing.T) {
	seen := make(chan []netip.Addr, 16)
	watcher := nodenet.NewAddresses(func(a nodenet.HostAddrs) { seen <- a.All() }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watcher.Run(ctx) }()
	base := []netip.Addr{netip.MustParseAddr(hostIPv4), netip.MustParseAddr(hostIPv6)}
	wantAddrs(t, seen, base)
	must(t, addAddr("lo", "192.0.2.77/32"))
	wantAddrs(t, seen, []netip.Addr{base[0], netip.MustParseAddr("192.0.2.77"), base[1]})
	must(t, addAddr("lo", "127.0.0.9/32")) // not one that others could use
	must(t, delAddr("lo", "127.0.0.9/32"))
	must(t, delAddr("lo", "192.0.2.77/32"))
	wantAddrs(t, seen, base)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func wantAddrs(t *testing.T, seen <-chan []netip.Addr, want []netip.Addr) {
	t.Helper()
	select {
	case got := <-seen:
		if !slices.Equal(got, want) {
			t.Errorf("addresses are %v; want %v", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out waiting for %v", want)
	}
}

// A host that lives by router advertisements goes on to when it begins to forward.
func TestForwardingKeepsRouterAdvertisements(t *testing.T) {
	must(t, addVeth("uplink", "router"))
	t.Cleanup(func() { must(t, delLink("uplink")) })
	set := func(key, value string) {
		t.Helper()
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+key, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("all/forwarding", "0")
	set("uplink/accept_ra", "1")
	set("router/accept_ra", "0")
	if err := nodenet.SetUp([]netip.Prefix{range6}); err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{"uplink": "2\n", "router": "0\n"} {
		if got, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + device + "/accept_ra"); err != nil || string(got) != want {
			t.Errorf("accept_ra of %s is %q, %v", device, got, err)
		}
	}
	if err := nodenet.Cleanup(nodenet.CleanupConfig{}); err != nil {
		t.Error(err)
	}
}
