// SPDX-License-Identifier: Apache-2.0

package agree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/weftmesh/weft/pkg/datapath"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/model"
)

const (
	root     = "/sys/fs/bpf/weft" // the sandbox's own
	maxPods  = 6
	actOK    = 0
	actShot  = 2
	redirect = 7
)

// kernel is the real datapath, with devices for the pods of one world after the
// other.
type kernel struct {
	dp      *datapath.Datapath
	devices [maxPods]uint32 // host-side, by slot - 1
	uplink  uint32
	fromPod *ebpf.Program
	toPod   *ebpf.Program
	// fresh are the unanswered flows by family, and drops what was refused.
	fresh map[int]*ebpf.Map
	drops *ebpf.Map
	frame []byte
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	dp, err := datapath.Open(datapath.Config{BPFFS: root, FlowEvents: true, CTEntries4: 4096, CTEntries6: 4096,
		Attach: datapath.AttachTCX, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("kernel: tcx (6.6)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(dp.Close(), datapath.Cleanup(root)); err != nil {
			t.Error(err)
		}
	})
	k := &kernel{dp: dp, uplink: device(t, "up0"), fresh: map[int]*ebpf.Map{}}
	for i := range k.devices {
		name := fmt.Sprint("wf", i)
		k.devices[i] = device(t, name)
		if err := dp.Attach(t.Context(), k.devices[i], name); err != nil {
			t.Fatal(err)
		}
	}
	k.fromPod, k.toPod = program(t, "wf0_in"), program(t, "wf0_out")
	k.fresh[4], k.fresh[6], k.drops = pinned(t, "weft_ctn4"), pinned(t, "weft_ctn6"), pinned(t, "weft_drops")
	return k
}

func device(t *testing.T, name string) uint32 {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		t.Fatal(err)
	}
	dev, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(dev); err != nil {
			t.Error(err)
		}
	})
	return uint32(dev.Attrs().Index)
}

// program is the one that is attached, found by its link's pin.
func program(t *testing.T, pin string) *ebpf.Program {
	t.Helper()
	l, err := link.LoadPinnedLink(filepath.Join(root, "links", pin), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

func pinned(t *testing.T, name string) *ebpf.Map {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "maps", name+"_v*"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("pins of %s: %v, %v", name, paths, err)
	}
	m, err := ebpf.LoadPinnedMap(paths[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// put makes the kernel hold exactly these rows, in the reconciler's order.
func (k *kernel) put(sets map[model.SetHash]model.PolicySet, endpoints []model.EndpointRow, ips []model.IPRow) error {
	for _, set := range sets {
		if err := k.dp.ApplyPolicySet(set); err != nil {
			return err
		}
	}
	for _, row := range endpoints {
		if err := k.dp.ApplyEndpoint(row); err != nil {
			return err
		}
	}
	held, err := k.dp.IPs()
	if err != nil {
		return err
	}
	wanted := map[netip.Prefix]bool{}
	for _, row := range ips {
		wanted[row.Prefix] = true
	}
	var gone []netip.Prefix
	for _, row := range held {
		if !wanted[row.Prefix] {
			gone = append(gone, row.Prefix)
		}
	}
	if err := k.dp.ApplyIPs(ips, gone); err != nil {
		return err
	}
	for slot := len(endpoints) + 1; slot <= maxPods; slot++ {
		if err := k.dp.DeleteEndpoint(uint16(slot)); err != nil {
			return err
		}
	}
	return k.forget(sets)
}

// forget removes the sets of earlier worlds, and looks whether what is left reads
// back as it was written.
func (k *kernel) forget(sets map[model.SetHash]model.PolicySet) error {
	held, err := k.dp.PolicySets()
	if err != nil {
		return err
	}
	var gone []model.SetHash
	for hash := range held {
		if _, ok := sets[hash]; !ok {
			gone = append(gone, hash)
		}
		delete(sets, hash)
	}
	if err := k.dp.DeletePolicySets(gone); err != nil {
		return err
	}
	if len(sets) > 0 {
		return fmt.Errorf("sets that were written read back as other ones: %v", sets)
	}
	return nil
}

// answer is what a program did with a packet.
type answer struct {
	verdict uint32
	ct      *weftbpf.BpfWeftCt // of the flow, if there is one now
}

// ask gives the first packet of a flow to a program; what the kernel notes of it
// is read and removed, so that the next question meets no flow.
func (k *kernel) ask(f flow, hook model.Direction, dev, from uint32, dst, src model.MAC) (answer, error) {
	k.frame = f.appendFrame(k.frame[:0], dst, src)
	prog, ctx := k.fromPod, skb{Ifindex: dev}
	if hook == model.Ingress {
		prog, ctx.IngressIfindex = k.toPod, from
	}
	verdict, err := prog.Run(&ebpf.RunOptions{Data: k.frame, Context: ctx, Repeat: 1})
	if err != nil {
		return answer{}, fmt.Errorf("running: %w", err)
	}
	out := answer{verdict: verdict}
	var ct weftbpf.BpfWeftCt
	family, key := f.key()
	err = k.fresh[family].LookupAndDelete(key, &ct)
	if err == nil {
		out.ct = &ct
	} else if !errors.Is(err, ebpf.ErrKeyNotExist) {
		return answer{}, err
	}
	return out, nil
}

// dropped tells whether exactly this kind of drop was counted since the last look.
func (k *kernel) dropped(key weftbpf.BpfWeftDropKey) (bool, error) {
	var d weftbpf.BpfWeftDrop
	err := k.drops.LookupAndDelete(key, &d)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil && d.Packets == 1, err
}

// key is the flow's key in conntrack: the smaller side first.
func (f flow) key() (family int, key any) {
	sport, dport := f.ports()
	a, b := netip.AddrPortFrom(f.src, sport), netip.AddrPortFrom(f.dst, dport)
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	ports := [2]uint16{wire16(a.Port()), wire16(b.Port())}
	if f.src.Is4() {
		return 4, weftbpf.BpfWeftCt4Key{Addr: [2]uint32{wire32(a.Addr()), wire32(b.Addr())}, Port: ports, Proto: f.proto}
	}
	return 6, weftbpf.BpfWeftCt6Key{Addr: [2][16]uint8{a.Addr().As16(), b.Addr().As16()}, Port: ports, Proto: f.proto}
}

func wire16(v uint16) uint16 { return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}) }

func wire32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// skb is struct __sk_buff as far as a test run takes it.
type skb struct {
	Len, PktType, Mark, QueueMapping, Protocol, VlanPresent, VlanTci, VlanProto, Priority,
	IngressIfindex, Ifindex, TcIndex uint32
	Rest [144]byte
}
