// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attached lists the ids of the programs on a device in one of our places, by
// program name.
func attached(t *testing.T, ifindex uint32) map[string]ebpf.ProgramID {
	t.Helper()
	found := make(map[string]ebpf.ProgramID)
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		res, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) {
			continue // no tcx
		}
		must(t, err)
		for _, p := range res.Programs {
			prog, err := ebpf.NewProgramFromID(p.ID)
			must(t, err)
			info, err := prog.Info()
			must(t, err)
			found["tcx "+info.Name] = p.ID
			prog.Close()
		}
	}
	dev := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}}
	for _, parent := range []uint32{clsactIngress, clsactEgress} {
		filters, _ := netlink.FilterList(dev, parent)
		for _, f := range filters {
			if bpf, ok := f.(*netlink.BpfFilter); ok {
				found["clsact "+bpf.Name] = ebpf.ProgramID(bpf.Id)
			}
		}
	}
	return found
}

func TestProgramsAreReplacedOnTheirDevices(t *testing.T) {
	for _, mode := range []AttachMode{AttachTCX, AttachClsact} {
		t.Run(mode.String(), func(t *testing.T) {
			d := open(t, Config{Attach: mode})
			dev := veth(t, "wf.dots")
			must(t, d.Attach(t.Context(), dev, "wf.dots"))
			must(t, d.Attach(t.Context(), dev, "wf.dots"))
			first := attached(t, dev)
			if len(first) != 2 || first[mode.String()+" weft_from_pod"] == 0 || first[mode.String()+" weft_to_pod"] == 0 {
				t.Fatalf("attached are %v", first)
			}
			must(t, d.Close())
			if now := attached(t, dev); len(now) != 2 {
				t.Fatalf("after Close, attached are %v", now)
			}
			d = reopen(t, Config{Attach: mode})
			second := attached(t, dev)
			for name, id := range second {
				if id == first[name] {
					t.Errorf("%s is still program %d after the restart", name, id)
				}
			}
			if len(second) != 2 {
				t.Errorf("after a restart, attached are %v", second)
			}
			must(t, d.Detach("wf.dots"))
			must(t, d.Detach("wf.dots"))
			if left := attached(t, dev); len(left) != 0 {
				t.Errorf("after Detach, attached are %v", left)
			}
		})
	}
}

// both tells whether a device has the pod's programs, and them alone, in one of the
// kernel's places.
func both(found map[string]ebpf.ProgramID, mode AttachMode) bool {
	return len(found) == 2 && found[mode.String()+" weft_from_pod"] != 0 && found[mode.String()+" weft_to_pod"] != 0
}

func TestAPodsDeviceGetsFiltersAndThenLinks(t *testing.T) {
	if errors.Is(haveTCX(), ebpf.ErrNotSupported) {
		t.Skip("kernel: tcx (6.6)")
	}
	d := open(t, Config{})
	devices := map[string]uint32{"wf.one": 0, "wf.two": 0, "wf.three": 0}
	for name := range devices {
		devices[name] = veth(t, name)
		must(t, d.Attach(t.Context(), devices[name], name))
		must(t, d.Attach(t.Context(), devices[name], name))
		if now := attached(t, devices[name]); !both(now, AttachClsact) {
			t.Errorf("on %s, attached are at first %v", name, now)
		}
	}
	must(t, d.Detach("wf.three"))
	if now := attached(t, devices["wf.three"]); len(now) != 0 {
		t.Errorf("after Detach, attached are %v", now)
	}
	for want := 1; want >= 0; want-- {
		if left, err := d.FinishAttach(); err != nil || left != want {
			t.Fatalf("%d devices are left, %v, want %d", left, err, want)
		}
	}
	if left, err := d.FinishAttach(); err != nil || left != 0 {
		t.Fatalf("with nothing to do: %d, %v", left, err)
	}
	for _, name := range []string{"wf.one", "wf.two"} {
		must(t, d.Attach(t.Context(), devices[name], name))
		if now := attached(t, devices[name]); !both(now, AttachTCX) {
			t.Errorf("on %s, attached are at last %v", name, now)
		}
	}
	must(t, d.Detach("wf.one"))
	if now := attached(t, devices["wf.one"]); len(now) != 0 {
		t.Errorf("after Detach, attached are %v", now)
	}
	if !hasClsact(t, devices["wf.two"]) {
		t.Error("to remove the qdisc, a device that is up was taken out of service")
	}
	must(t, d.Close())
	must(t, Cleanup(testRoot))
	if hasClsact(t, devices["wf.two"]) {
		t.Error("after Cleanup there is still a clsact qdisc")
	}
}

func hasClsact(t *testing.T, ifindex uint32) bool {
	t.Helper()
	list, err := netlink.QdiscList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(ifindex)}})
	must(t, err)
	return slices.ContainsFunc(list, func(q netlink.Qdisc) bool { return q.Type() == "clsact" })
}

// An agent may be killed between any two writes of FinishAttach.
func TestAnotherAgentFinishesWhatWasPutOff(t *testing.T) {
	if errors.Is(haveTCX(), ebpf.ErrNotSupported) {
		t.Skip("kernel: tcx (6.6)")
	}
	for name, cut := range map[string]func(*tcxAttacher, uint32) error{
		"before it began": func(*tcxAttacher, uint32) error { return nil },
		"after one link": func(a *tcxAttacher, dev uint32) error {
			return a.attachSide(dev, a.pins.linkPath("wfcut", "_in"), a.places[atPod][0])
		},
		"after both links": func(a *tcxAttacher, dev uint32) error { return a.link(atPod, dev, "wfcut") },
		"after one filter": func(a *tcxAttacher, dev uint32) error {
			filter := &netlink.BpfFilter{FilterAttrs: ourFilter(int(dev), clsactIngress)}
			return errors.Join(a.link(atPod, dev, "wfcut"), netlink.FilterDel(filter))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Config{})
			dev := veth(t, "wfcut")
			must(t, d.Attach(t.Context(), dev, "wfcut"))
			must(t, cut(d.attacher.(*tcxAttacher), dev))
			must(t, d.Close())
			d = reopen(t, Config{})
			if now := attached(t, dev); !both(now, AttachTCX) {
				t.Errorf("attached are %v", now)
			}
			if left, err := d.FinishAttach(); err != nil || left != 0 {
				t.Errorf("%d devices are left, %v", left, err)
			}
		})
	}
}

func TestADeviceThatWentIsNotWaitedFor(t *testing.T) {
	d := open(t, Config{})
	dev := veth(t, "wfwent")
	must(t, d.Attach(t.Context(), dev, "wfwent"))
	gone, err := netlink.LinkByName("wfwent")
	must(t, err)
	must(t, netlink.LinkDel(gone))
	if left, err := d.FinishAttach(); err != nil || left != 0 {
		t.Errorf("%d devices are left, %v", left, err)
	}
	must(t, d.Detach("wfwent"))
}

func TestModeOfAttachmentMayChange(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	dev := veth(t, "wfmode")
	must(t, d.Attach(t.Context(), dev, "wfmode"))
	for _, mode := range []AttachMode{AttachClsact, AttachTCX} {
		must(t, d.Close())
		d = reopen(t, Config{Attach: mode})
		now := attached(t, dev)
		if len(now) != 2 || now[mode.String()+" weft_from_pod"] == 0 || now[mode.String()+" weft_to_pod"] == 0 {
			t.Errorf("in mode %s, attached are %v", mode, now)
		}
	}
}

func TestLinksOfDevicesThatWentAreForgotten(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	gone := veth(t, "wfgone")
	must(t, d.Attach(t.Context(), gone, "wfgone"))
	dev, err := netlink.LinkByName("wfgone")
	must(t, err)
	must(t, d.Close())
	must(t, netlink.LinkDel(dev))
	d = reopen(t, Config{Attach: AttachTCX})
	if pins, err := os.ReadDir(testRoot + "/links"); err != nil || len(pins) != 0 {
		t.Errorf("pinned links are %v, %v", pins, err)
	}

	// The name comes back with another device, and with a pin that is not its own.
	first := veth(t, "wfagain")
	must(t, d.Attach(t.Context(), first, "wfagain"))
	dev, err = netlink.LinkByName("wfagain")
	must(t, err)
	must(t, netlink.LinkDel(dev))
	second := veth(t, "wfagain")
	must(t, d.Attach(t.Context(), second, "wfagain"))
	if now := attached(t, second); len(now) != 2 {
		t.Errorf("on the second device, attached are %v", now)
	}
	must(t, d.Detach("wfneverwas"))
}

func TestOtherFiltersOfADeviceStay(t *testing.T) {
	d := open(t, Config{Attach: AttachClsact})
	dev := veth(t, "wfother")
	must(t, netlink.QdiscAdd(clsactQdisc(int(dev))))
	must(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: int(dev), Parent: clsactIngress, Handle: 7, Priority: 5, Protocol: unix.ETH_P_ALL},
		Fd:          d.progs.WeftFromPod.FD(), Name: "someone_else", DirectAction: true,
	}))
	must(t, d.Attach(t.Context(), dev, "wfother"))
	must(t, d.Detach("wfother"))
	if left := attached(t, dev); len(left) != 1 || left["clsact someone_else"] == 0 {
		t.Errorf("after Detach, attached are %v", left)
	}
}

func TestCleanupLeavesNothing(t *testing.T) {
	d := open(t, Config{Attach: AttachTCX})
	tcx, cls := veth(t, "wfclean1"), veth(t, "wfclean2")
	must(t, d.Attach(t.Context(), tcx, "wfclean1"))
	must(t, d.ApplyPolicySet(policySet(80)))
	clsact, err := newAttacher(AttachClsact, d.pins, &d.progs, d.log)
	must(t, err)
	must(t, clsact.attach(atUplink, cls, "wfclean2"))
	programs := programIDs(t, d)
	must(t, d.Close())

	must(t, Cleanup(testRoot))
	must(t, Cleanup(testRoot))
	if _, err := os.Stat(testRoot); !os.IsNotExist(err) {
		t.Errorf("the directory of pins: %v", err)
	}
	if a, b := attached(t, tcx), attached(t, cls); len(a)+len(b) != 0 {
		t.Errorf("attached are %v and %v", a, b)
	}
	if !eventually(t, func() bool { return freed(programs) }) {
		t.Error("programs are left")
	}
}

// programIDs are the ids of a datapath's programs.
func programIDs(t *testing.T, d *Datapath) []ebpf.ProgramID {
	t.Helper()
	var ids []ebpf.ProgramID
	for _, prog := range []*ebpf.Program{d.progs.WeftFromPod, d.progs.WeftToPod, d.progs.WeftCtGc, d.progs.WeftCtSweep} {
		info, err := prog.Info()
		must(t, err)
		id, _ := info.ID()
		ids = append(ids, id)
	}
	return ids
}

// freed tells whether the kernel has let go of all of these programs, which
// happens a moment after their last user went.
func freed(ids []ebpf.ProgramID) bool {
	for _, id := range ids {
		if prog, err := ebpf.NewProgramFromID(id); err == nil {
			prog.Close()
			return false
		}
	}
	return true
}
