// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

// uplinkRows is what the kernel has of uplinks.
func uplinkRows(t *testing.T, d *Datapath) map[uint32]weftbpf.BpfWeftUplinkRow {
	t.Helper()
	rows := make(map[uint32]weftbpf.BpfWeftUplinkRow)
	must(t, dump(d.maps.WeftUplink, func(k uint32, v weftbpf.BpfWeftUplinkRow) error { rows[k] = v; return nil }))
	return rows
}

func isUplink(t *testing.T, d *Datapath, mode AttachMode, ifindex uint32) bool {
	t.Helper()
	progs := attached(t, ifindex)
	_, row := uplinkRows(t, d)[ifindex]
	is := progs[mode.String()+" weft_from_net"] != 0 && progs[mode.String()+" weft_to_net"] != 0
	if is != row || !is && len(progs) > 0 {
		t.Errorf("device %d: a row %v, programs %v", ifindex, row, progs)
	}
	return is
}

func TestUplinksComeAndGo(t *testing.T) {
	for _, mode := range []AttachMode{AttachTCX, AttachClsact} {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, Config{Attach: mode})
			a, b, pod := veth(t, "up.a"), veth(t, "up_b_in"), veth(t, "wfpod")
			must(t, d.Attach(t.Context(), pod, "wfpod"))
			one := model.Uplink{Name: "up.a", Index: a, IPv4: netip.MustParseAddr("192.0.2.1")}
			two := model.Uplink{Name: "up_b_in", Index: b, IPv6: netip.MustParseAddr("2001:db8::1")}
			for _, step := range [][]model.Uplink{{one}, {one}, {one, two}, {two}} {
				must(t, d.SetUplinks(step))
				for _, u := range []model.Uplink{one, two} {
					if want := slices.Contains(step, u); isUplink(t, d, mode, u.Index) != want {
						t.Errorf("%v: %s is an uplink: %v", step, u.Name, !want)
					}
				}
			}
			row := uplinkRows(t, d)[b]
			if row.Ip4 != 0 || row.Ip6 != two.IPv6.As16() {
				t.Errorf("the row is %+v", row)
			}
			before := attached(t, b)
			must(t, d.Close())
			d = reopen(t, Config{Attach: mode})
			names, _, err := d.Uplinks()
			must(t, err)
			if !slices.Equal(names, []string{"up_b_in"}) || !isUplink(t, d, mode, b) {
				t.Errorf("after a restart the uplinks are %v", names)
			}
			if maps.Equal(attached(t, b), before) {
				t.Error("after a restart the programs are the old ones")
			}
			if progs := attached(t, pod); len(progs) != 2 || progs[mode.String()+" weft_from_pod"] == 0 {
				t.Errorf("the pod's device has %v", progs)
			}
			must(t, d.SetUplinks(nil))
			if isUplink(t, d, mode, b) || len(attached(t, pod)) != 2 {
				t.Error("at the end the uplink is one still, or the pod's device has lost its programs")
			}
		})
	}
}

func TestModeOfAttachmentOfUplinksMayChange(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	dev := veth(t, "upmode")
	up := []model.Uplink{{Name: "upmode", Index: dev, IPv4: netip.MustParseAddr("192.0.2.1")}}
	must(t, d.SetUplinks(up))
	for _, mode := range []AttachMode{AttachClsact, AttachTCX} {
		must(t, d.Close())
		d = reopen(t, Config{Attach: mode})
		if !isUplink(t, d, mode, dev) || len(attached(t, dev)) != 2 {
			t.Errorf("in mode %s, attached are %v", mode, attached(t, dev))
		}
	}
}

// An uplink that went, whose name another device has now, and one with a new name.
func TestUplinksChangeTheirDevices(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	first := veth(t, "upgone")
	up := model.Uplink{Name: "upgone", Index: first, IPv4: netip.MustParseAddr("192.0.2.1")}
	must(t, d.SetUplinks([]model.Uplink{up}))
	dev, err := netlink.LinkByName("upgone")
	must(t, err)
	must(t, netlink.LinkDel(dev))
	up.Index = veth(t, "upgone")
	must(t, d.SetUplinks([]model.Uplink{up}))
	if !isUplink(t, d, AttachTCX, up.Index) || len(uplinkRows(t, d)) != 1 {
		t.Errorf("the rows are %v", uplinkRows(t, d))
	}
	dev, err = netlink.LinkByName("upgone")
	must(t, err)
	must(t, netlink.LinkSetName(dev, "upnamed"))
	t.Cleanup(func() { _ = netlink.LinkDel(dev) })
	up.Name = "upnamed"
	must(t, d.SetUplinks([]model.Uplink{up}))
	if progs := attached(t, up.Index); len(progs) != 2 {
		t.Errorf("under a new name, attached are %v", progs)
	}
	if names, _, err := d.Uplinks(); err != nil || !slices.Equal(names, []string{"upnamed"}) {
		t.Errorf("uplinks are %v, %v", names, err)
	}
	if err := d.SetUplinks([]model.Uplink{{Name: "upnever", Index: 1 << 20}, up}); err == nil || !isUplink(t, d, AttachTCX, up.Index) {
		t.Errorf("with a device that is not there: %v", err)
	}
}

func TestAddressesOfTheHost(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	for _, list := range [][]string{{"192.0.2.1", "2001:db8::1"}, {"192.0.2.1"}, {"192.0.2.2"}, {}} {
		want := map[string]bool{}
		var addrs []netip.Addr
		for _, s := range list {
			addrs = append(addrs, netip.MustParseAddr(s))
			want[s] = true
		}
		must(t, d.SetHome(addrs))
		have := map[string]bool{}
		must(t, dump(d.maps.WeftHome, func(k weftbpf.BpfWeftHomeKey, _ uint32) error {
			a := netip.AddrFrom16(k.Addr)
			if [12]byte(k.Addr[4:]) == [12]byte{} {
				a = netip.AddrFrom4([4]byte(k.Addr[:4]))
			}
			have[a.String()] = true
			return nil
		}))
		if !maps.Equal(have, want) {
			t.Errorf("%v: the kernel has %v", list, have)
		}
	}
}
