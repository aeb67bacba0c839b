// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	actOK       = 0
	actShot     = 2
	actRedirect = 7

	egress  = 0
	ingress = 1

	slots = 16
	ring  = 8 // places for unanswered flows in tests

	natEntries = 128 // keys of translated flows, two a flow
)

// families that a table is run for.
var families = []int{4, 6}

// skb is struct __sk_buff as far as TEST_RUN takes or gives it.
type skb struct {
	Len, PktType, Mark, QueueMapping, Protocol, VlanPresent, VlanTci, VlanProto, Priority,
	IngressIfindex, Ifindex, TcIndex uint32
	Cb                                        [5]uint32
	Hash, TcClassid, Data, DataEnd, Napi, Fam uint32
	Addrs                                     [10]uint32
	RemotePort, LocalPort, DataMeta           uint32
	FlowKeys, Tstamp                          uint64
	WireLen, GsoSegs                          uint32
	Sk                                        uint64
	GsoSize, Pad                              uint32
	Hwtstamp                                  uint64
}

// host is a pod of the test node, or somebody elsewhere (slot 0).
type host struct {
	ip       map[int]netip.Addr
	ll       netip.Addr
	mac, gw  mac
	slot     uint16
	ifindex  uint32
	identity uint32
	row      weftbpf.BpfWeftEpRow
}

// node is the loaded collection with three pods, the host and the world.
type node struct {
	testing.TB
	objs    weftbpf.BpfObjects
	events  *ringbuf.Reader
	a, b, c *host // pods
	self    *host // the host
	far     *host // somebody in the world, not in the table of addresses
	uplink  uint32
	epoch   *uint32 // shared by the copies of subtests
}

// load gives the collection in a size for tests.
func load(t testing.TB, change func(*weftbpf.BpfWeftConfig)) *weftbpf.BpfObjects {
	t.Helper()
	spec, cfg := configured(t, change)
	if objs := loaded.take(t, cfg); objs != nil {
		return objs
	}
	smallTables(spec)
	objs := loadSpec(t, spec)
	t.Cleanup(func() { loaded.give(cfg, objs) })
	return objs
}

func smallTables(spec *ebpf.CollectionSpec) {
	for _, m := range []string{"weft_ct4", "weft_ct6", "weft_ctn4", "weft_ctn6"} {
		spec.Maps[m].MaxEntries = 4096
	}
	spec.Maps["weft_nat4"].MaxEntries, spec.Maps["weft_nat6"].MaxEntries = natEntries, natEntries
}

// loadSized gives the collection in a size of the caller's.
func loadSized(t testing.TB, change func(*weftbpf.BpfWeftConfig), size func(*ebpf.CollectionSpec)) *weftbpf.BpfObjects {
	t.Helper()
	spec, _ := configured(t, change)
	size(spec)
	objs := loadSpec(t, spec)
	t.Cleanup(func() { objs.Close() })
	return objs
}

func configured(t testing.TB, change func(*weftbpf.BpfWeftConfig)) (*ebpf.CollectionSpec, weftbpf.BpfWeftConfig) {
	t.Helper()
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var cfg weftbpf.BpfWeftConfig
	if err := spec.Variables["weft_cfg"].Get(&cfg); err != nil {
		t.Fatal(err)
	}
	cfg.PendMax = ring
	if change != nil {
		change(&cfg)
	}
	if err := spec.Variables["weft_cfg"].Set(cfg); err != nil {
		t.Fatal(err)
	}
	return spec, cfg
}

func loadSpec(t testing.TB, spec *ebpf.CollectionSpec) *weftbpf.BpfObjects {
	t.Helper()
	objs := new(weftbpf.BpfObjects)
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	return objs
}

func newNode(t testing.TB) *node { return newNodeWith(t, nil) }

func newNodeWith(t testing.TB, change func(*weftbpf.BpfWeftConfig)) *node {
	t.Helper()
	return newNodeOn(t, load(t, change))
}

func newNodeOn(t testing.TB, objs *weftbpf.BpfObjects) *node {
	t.Helper()
	n := &node{TB: t, objs: *objs, epoch: new(uint32)}
	var err error
	if n.events, err = ringbuf.NewReader(n.objs.WeftEvents); err != nil {
		t.Fatal(err)
	}
	n.events.SetDeadline(time.Now()) // the programs wake nobody up, but what they report is there at once
	t.Cleanup(func() { n.events.Close() })
	n.drain() // of whom had the collection before
	n.a, n.b, n.c = n.pod(1), n.pod(2), n.pod(3)
	n.uplink = device(t, "up0")
	n.self = &host{identity: 1, mac: mac{2, 0, 0, 0, 0, 0xfe}, ip: addrs("192.168.7.1", "fd07::1")}
	n.far = &host{mac: mac{2, 0, 0, 0, 0, 0xfd}, ip: addrs("8.8.8.8", "2001:db8::8")}
	n.address(n.self, n.self.identity)
	return n
}

func addrs(v4, v6 string) map[int]netip.Addr {
	return map[int]netip.Addr{4: netip.MustParseAddr(v4), 6: netip.MustParseAddr(v6)}
}

// device gives the index of the first end of a veth pair of that name, which is
// made where it is not there yet; all go with the network namespace.
func device(t testing.TB, name string) uint32 {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}
	if err := netlink.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatalf("adding device %s: %v", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(link.Attrs().Index)
}

// pod makes an endpoint without policy.
func (n *node) pod(slot uint16) *host {
	n.Helper()
	i := byte(slot)
	h := &host{
		slot: slot, ifindex: device(n, fmt.Sprintf("wf%d", slot)), identity: 1000 + uint32(slot),
		mac: mac{2, 0, 0, 0, 1, i}, gw: mac{2, 0, 0, 0, 2, i},
		ip: addrs(fmt.Sprintf("10.0.0.%d", slot), fmt.Sprintf("fd00::%d", slot)),
		ll: netip.MustParseAddr(fmt.Sprintf("fe80::%d", slot)),
	}
	h.row = weftbpf.BpfWeftEpRow{
		Ifindex: h.ifindex, Identity: h.identity, Flags: 3, Mtu: 1500,
		Mac: h.mac, HostMac: h.gw, Ip6: h.ip[6].As16(), Ll6: h.ll.As16(), Id: 70 + uint32(slot),
	}
	v4 := h.ip[4].As4()
	h.row.Ip4 = *(*uint32)(unsafe.Pointer(&v4[0]))
	n.update(h)
	n.put(n.objs.WeftIf, h.ifindex, uint32(slot))
	n.address(h, h.identity)
	inner, err := ebpf.NewMap(inside(n, "weft_pend"))
	if err != nil {
		n.Fatal(err)
	}
	defer inner.Close()
	n.put(n.objs.WeftPend, uint32(slot), inner)
	return h
}

// inside describes the maps that a map of maps takes, with their types: Linux
// before 6.3 takes no others.
func inside(t testing.TB, name string) *ebpf.MapSpec {
	t.Helper()
	spec, err := weftbpf.LoadBpf()
	if err != nil {
		t.Fatal(err)
	}
	return spec.Maps[name].InnerMap
}

// update writes the pod's row under a new epoch.
func (n *node) update(h *host) {
	n.Helper()
	*n.epoch++
	h.row.Epoch = *n.epoch
	n.put(n.objs.WeftEp, uint32(h.slot), &h.row)
}

func (n *node) put(m *ebpf.Map, key, value any) {
	n.Helper()
	if err := m.Put(key, value); err != nil {
		n.Fatalf("writing %s: %v", m, err)
	}
}

// address tells what identity the host's addresses have.
func (n *node) address(h *host, identity uint32) {
	n.Helper()
	for _, ip := range h.ip {
		n.prefix(netip.PrefixFrom(ip, ip.BitLen()), identity, h.slot)
	}
}

func (n *node) prefix(p netip.Prefix, identity uint32, slot uint16) {
	n.Helper()
	row := weftbpf.BpfWeftIp{Identity: identity, Slot: slot}
	if p.Addr().Is4() {
		v4 := p.Addr().As4()
		key := weftbpf.BpfWeftIp4Key{Prefixlen: uint32(p.Bits()),
			Addr: *(*uint32)(unsafe.Pointer(&v4[0]))}
		n.put(n.objs.WeftIp4, key, row)
		return
	}
	n.put(n.objs.WeftIp6, weftbpf.BpfWeftIp6Key{Prefixlen: uint32(p.Bits()), Addr: p.Addr().As16()}, row)
}

// run gives a frame to a program: from the pod, or to it (in: the device it came
// from, 0 for the host's own sockets).
func (n *node) run(prog *ebpf.Program, ctx skb, frame []byte) (uint32, []byte, skb) {
	n.Helper()
	out := make([]byte, len(frame)+64)
	var ctxOut skb
	if prog == n.objs.WeftFromPod {
		ctx.IngressIfindex = ctx.Ifindex // as the kernel has it
	}
	opts := &ebpf.RunOptions{Data: frame, DataOut: out, Context: ctx, ContextOut: &ctxOut, Repeat: 1}
	verdict, err := prog.Run(opts)
	if err != nil {
		n.Fatalf("running: %v", err)
	}
	return verdict, opts.DataOut, ctxOut
}

func (n *node) from(h *host, frame []byte) uint32 {
	n.Helper()
	v, _, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: h.ifindex}, frame)
	return v
}

func (n *node) to(h *host, in uint32, frame []byte) uint32 {
	n.Helper()
	v, _, _ := n.run(n.objs.WeftToPod, skb{Ifindex: h.ifindex, IngressIfindex: in}, frame)
	return v
}

// counter sums a counter over all CPUs.
func (n *node) counter(reason weftbpf.BpfWeftReason, dir int) (packets, bytes uint64) {
	n.Helper()
	var per []weftbpf.BpfWeftCounter
	if err := n.objs.WeftMetrics.Lookup(uint32(reason)*2+uint32(dir), &per); err != nil {
		n.Fatal(err)
	}
	for _, c := range per {
		packets, bytes = packets+c.Packets, bytes+c.Bytes
	}
	return packets, bytes
}

// counters is every counter that is not zero, packets only.
func (n *node) counters() map[[2]int]uint64 {
	out := map[[2]int]uint64{}
	for r := range int(weftbpf.BpfWeftReasonWEFT_REASON_MAX) {
		for d := range 2 {
			if c, _ := n.counter(weftbpf.BpfWeftReason(r), d); c > 0 {
				out[[2]int{r, d}] = c
			}
		}
	}
	return out
}

// dropped asserts that do drops one packet for the reason, and nothing else.
func (n *node) dropped(reason weftbpf.BpfWeftReason, dir int, do func() uint32) {
	n.Helper()
	before := n.counters()
	if v := do(); v != actShot {
		n.Errorf("verdict %d, want a drop for reason %d", v, reason)
	}
	after := n.counters()
	before[[2]int{int(reason), dir}]++
	for k := range after {
		if after[k] != before[k] {
			n.Errorf("counter of reason %d, direction %d is %d, want %d", k[0], k[1], after[k], before[k])
		}
	}
	if want := before[[2]int{int(reason), dir}]; after[[2]int{int(reason), dir}] != want {
		n.Errorf("reason %d, direction %d not counted; counters %v", reason, dir, after)
	}
}

// passes asserts a verdict and that nothing was counted as dropped.
func (n *node) passes(verdict uint32, do func() uint32) {
	n.Helper()
	before := n.counters()
	if v := do(); v != verdict {
		n.Errorf("verdict %d, want %d", v, verdict)
	}
	for k, c := range n.counters() {
		if k[0] != 0 && c != before[k] {
			n.Errorf("counted as dropped for reason %d, direction %d", k[0], k[1])
		}
	}
}

// event gives the next flow event; there must be one.
func (n *node) event() weftbpf.BpfWeftFlow {
	n.Helper()
	rec, err := n.events.Read()
	if err != nil {
		n.Fatalf("waiting for an event: %v", err)
	}
	return *(*weftbpf.BpfWeftFlow)(unsafe.Pointer(&rec.RawSample[0]))
}

// silent asserts that no event is waiting; drain forgets those that are.
func (n *node) silent() {
	n.Helper()
	if k := n.drain(); k != 0 {
		n.Errorf("%d events, want none", k)
	}
}

func (n *node) drain() int {
	k := 0
	for ; n.events.AvailableBytes() > 0; k++ {
		n.event()
	}
	return k
}
