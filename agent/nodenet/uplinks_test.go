// SPDX-License-Identifier: Apache-2.0

package nodenet

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/model"
)

func device(index int, name, kind string) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, EncapType: kind}}
}

func address(ifindex int, cidr string, flags int) netlink.Addr {
	p := netip.MustParsePrefix(cidr)
	return netlink.Addr{LinkIndex: ifindex, Flags: flags, Scope: unix.RT_SCOPE_UNIVERSE,
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
}

func route(family, ifindex int) netlink.Route {
	return netlink.Route{Family: family, LinkIndex: ifindex}
}

// aroundUs has two ways out of IPv4, one of IPv6, and devices that are none.
func aroundUs() surroundings {
	byHops := netlink.Route{Family: netlink.FAMILY_V4, MultiPath: []*netlink.NexthopInfo{{LinkIndex: 2}, {LinkIndex: 3}}}
	return surroundings{
		links: []netlink.Link{device(5, "tun0", "none"), device(4, "eth2", "ether"), device(3, "eth1", "ether"), device(2, "eth0", "ether")},
		defaults: []netlink.Route{byHops, route(netlink.FAMILY_V6, 4), route(netlink.FAMILY_V4, 5),
			{Family: netlink.FAMILY_V4, LinkIndex: 3, Src: net.ParseIP("203.0.113.9")}},
		addrs: []netlink.Addr{
			address(2, "192.0.2.9/24", unix.IFA_F_SECONDARY), address(2, "192.0.2.1/24", unix.IFA_F_PERMANENT),
			address(3, "192.0.3.1/24", 0), address(2, "2001:db8::1/64", 0),
			address(4, "2001:db8:4::9/64", unix.IFA_F_TEMPORARY), address(4, "2001:db8:4::1/64", 0), address(4, "2001:db8:4::d/64", unix.IFA_F_DADFAILED),
		},
	}
}

func TestChoiceOfUplinks(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  UplinksConfig
		had  []string
		want string
	}{
		"default routes of IPv4":       {UplinksConfig{IPv4: true}, nil, "eth0 192.0.2.1, eth1 203.0.113.9"},
		"default routes of IPv6":       {UplinksConfig{IPv6: true}, nil, "eth2 2001:db8:4::1"},
		"of both":                      {UplinksConfig{IPv4: true, IPv6: true}, nil, "eth0 192.0.2.1 2001:db8::1, eth1 203.0.113.9, eth2 2001:db8:4::1"},
		"named ones":                   {UplinksConfig{IPv4: true, Devices: []string{"eth1", "eth7"}}, []string{"eth0"}, "eth1 203.0.113.9"},
		"one whose route has gone":     {UplinksConfig{IPv6: true}, []string{"eth0"}, "eth0 2001:db8::1, eth2 2001:db8:4::1"},
		"one that has gone":            {UplinksConfig{IPv6: true}, []string{"eth8"}, "eth2 2001:db8:4::1"},
		"one that cannot be an uplink": {UplinksConfig{IPv4: true, Devices: []string{"tun0"}}, nil, "none"},
	} {
		u := NewUplinks(tc.cfg, tc.had, nil, slog.New(slog.DiscardHandler))
		if got := describeUplinks(u.choose(aroundUs())); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// What keeps pods' addresses against what was asked for is told, until it is mended.
func TestFaultsOfDevicesAreTold(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  UplinksConfig
		want []string
	}{
		"none": {UplinksConfig{IPv6: true}, nil},
		"a default route by a tunnel": {UplinksConfig{IPv4: true, IPv6: true},
			[]string{"tun0 is no Ethernet device to the outside; what leaves by it keeps the pods' addresses"}},
		"other devices are named": {UplinksConfig{IPv4: true, Devices: []string{"eth1"}}, nil},
		"named ones": {UplinksConfig{IPv4: true, Devices: []string{"eth7", "eth1", "tun0"}},
			[]string{"eth7 does not exist (masquerade.devices)",
				"tun0 is no Ethernet device to the outside; what leaves by it keeps the pods' addresses"}},
	} {
		u := NewUplinks(tc.cfg, nil, func([]model.Uplink) error { return nil }, slog.New(slog.DiscardHandler))
		if err := u.refresh(aroundUs()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := u.Faults(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: told %q, want %q", name, got, tc.want)
		}
	}
	u := NewUplinks(UplinksConfig{IPv4: true, Devices: []string{"tun1"}}, nil,
		func([]model.Uplink) error { return nil }, slog.New(slog.DiscardHandler))
	s := aroundUs()
	for _, want := range []string{"tun1 does not exist", "tun1 is no Ethernet device", ""} {
		if err := u.refresh(s); err != nil {
			t.Error(err)
		}
		if got := strings.Join(u.Faults(), ""); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("told %q, want %q", got, want)
		}
		kind := map[string]string{"tun1 does not exist": "none"}[want]
		s = aroundUs()
		s.links = append(s.links, device(9, "tun1", cmp.Or(kind, "ether")))
	}
}

func TestUplinkWithoutAnAddressIsToldSo(t *testing.T) {
	u := NewUplinks(UplinksConfig{IPv4: true, Devices: []string{"eth2"}}, nil,
		func([]model.Uplink) error { return nil }, slog.New(slog.DiscardHandler))
	if err := u.refresh(aroundUs()); err != nil {
		t.Fatal(err)
	}
	if got, want := u.Describe(), "packets leave by eth2 (no address: pods keep theirs)"; got != want {
		t.Errorf("described as %q, want %q", got, want)
	}
}

func TestSourceAddressAsLastResort(t *testing.T) {
	s := surroundings{addrs: []netlink.Addr{
		address(2, "2001:db8::d/64", unix.IFA_F_DADFAILED), address(2, "2001:db8::5/64", unix.IFA_F_DEPRECATED),
	}}
	if got := s.sourceAddr(2, netlink.FAMILY_V6); got.String() != "2001:db8::5" {
		t.Errorf("got %s", got)
	}
	if got := s.sourceAddr(2, netlink.FAMILY_V4); got.IsValid() {
		t.Errorf("without an address, got %s", got)
	}
}

func TestUplinksAreToldAgainAfterAFailure(t *testing.T) {
	var told [][]model.Uplink
	fail := errors.New("no")
	u := NewUplinks(UplinksConfig{}, []string{"eth0"}, func(now []model.Uplink) error {
		told = append(told, now)
		return fail
	}, slog.New(slog.DiscardHandler))
	if err := u.Refresh(); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	fail = nil
	for range 2 {
		if err := u.Refresh(); err != nil {
			t.Error(err)
		}
	}
	if text := u.Describe(); !strings.Contains(text, "masquerade is off") {
		t.Errorf("described as %q", text)
	}
	if len(told) != 2 || len(told[1]) != 0 {
		t.Errorf("with both families off, told %v", told)
	}
}

// With ports of the node that lead to pods, every device with an address of the
// node's has the programs, and only those of the way out masquerade; when there are
// none any more the others go.
func TestDevicesOfHostPorts(t *testing.T) {
	seen := aroundUs()
	seen.links = append(seen.links, device(6, "wan1", "ether"), device(7, "bare0", "ether"), device(8, "tun1", "none"))
	seen.addrs = append(seen.addrs, address(6, "198.51.100.1/24", 0), address(8, "198.51.101.1/24", 0))
	for _, cfg := range []UplinksConfig{{}, {IPv6: true}, {IPv4: true, Devices: []string{"eth1"}}} {
		var got []model.Uplink
		u := NewUplinks(cfg, nil, func(now []model.Uplink) error { got = now; return nil }, slog.New(slog.DiscardHandler))
		for _, on := range []bool{true, false, true} {
			u.SetHostPorts(on)
			if err := u.refresh(seen); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, up := range got {
				if leaves := u.wanted(seen, &netlink.LinkAttrs{Name: up.Name, Index: int(up.Index)}); up.OnlyIn == leaves ||
					up.OnlyIn && (up.IPv4.IsValid() || up.IPv6.IsValid()) {
					t.Errorf("%+v: %+v", cfg, up)
				}
				if on || !up.OnlyIn {
					names = append(names, up.Name)
				}
			}
			want := "eth0 eth1 eth2 wan1"
			if !on {
				want = map[bool]string{true: "", false: "eth2"}[!cfg.IPv6]
				if cfg.IPv4 {
					want = "eth1"
				}
			}
			if text := strings.Join(names, " "); text != want || len(names) != len(got) {
				t.Errorf("%+v, host ports %t: %q, want %q", cfg, on, text, want)
			}
		}
	}
}

// With a tunnel the devices between nodes are uplinks as well, and nothing is
// translated there; a starting agent tells them from the others.
func TestDevicesBetweenNodesAreUplinks(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  UplinksConfig
		had  []string
		near []int
		want string
	}{
		"besides that of the default route": {UplinksConfig{IPv6: true}, nil, []int{2, 4}, "eth0, eth2 2001:db8:4::1"},
		"without masquerade":                {UplinksConfig{}, nil, []int{2}, "eth0"},
		"besides named ones":                {UplinksConfig{IPv4: true, Devices: []string{"eth1"}}, nil, []int{2}, "eth0, eth1 203.0.113.9"},
		"before nodes are known":            {UplinksConfig{IPv6: true}, []string{"eth0", "eth2"}, nil, "eth0, eth2 2001:db8:4::1"},
		"one that has gone":                 {UplinksConfig{}, []string{"eth8"}, nil, "none"},
		"one that cannot be an uplink":      {UplinksConfig{}, nil, []int{5}, "none"},
	} {
		devices := tc.near
		tc.cfg.Underlay = func() ([]int, <-chan struct{}) { return devices, nil }
		var told []model.Uplink
		fail := errors.New("no")
		u := NewUplinks(tc.cfg, tc.had, func(now []model.Uplink) error { told = now; return fail }, slog.New(slog.DiscardHandler))
		look := func(want error) {
			t.Helper()
			s := aroundUs()
			s.underlay = devices
			if err := u.refresh(s); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
			if got := strings.ReplaceAll(describeUplinks(told), " (no address: pods keep theirs)", ""); got != tc.want {
				t.Errorf("%s: %s, want %s", name, got, tc.want)
			}
		}
		look(fail)
		fail = nil
		look(nil)
		devices = nil
		look(nil) // it stays one while its routes are away
	}
}
