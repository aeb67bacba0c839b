// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// direct has the pods of the test node pass the host's stack by on their way to pods of
// other nodes.
func direct(c *weftbpf.BpfWeftConfig) {
	c.Direct4, c.Direct4Mask = wire32(netip.MustParseAddr("10.0.0.0")), wire32(netip.MustParseAddr("255.255.255.0"))
	ip := netip.MustParseAddr("fd00::").As16()
	c.Direct6, c.Direct6Mask = [2]uint64{binary.NativeEndian.Uint64(ip[:8]), 0}, [2]uint64{^uint64(0), ^uint64(0xffff << 48)}
}

// routed is a node that routes to the pods of another one, and knows its neighbours.
type routed struct {
	*node
	away *host // a pod of the other node
	gate map[int]netip.Addr
	wire uint32 // another device, which leads to nobody
}

func newRouted(t testing.TB) *routed {
	t.Helper()
	r := &routed{node: newUplink(t, direct), gate: addrs("192.168.7.3", "fd07::3"), wire: device(t, "up1")}
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		r.must(os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0))
	}
	lo, err := netlink.LinkByName("lo")
	r.must(err)
	r.must(netlink.LinkSetUp(lo)) // or Go takes a host with addresses for one that has no IPv6
	r.away = r.elsewhere()
	for _, h := range []*host{r.a, r.b, r.c} {
		r.up(h.ifindex, h.gw)
	}
	r.up(r.uplink, r.self.mac)
	r.up(r.wire, r.self.mac)
	for _, f := range families {
		bits := r.gate[f].BitLen()
		r.must(netlink.AddrReplace(r.link(r.uplink), &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(r.self.ip[f], bits-8)), Flags: ifaNoDAD}))
		r.must(netlink.RouteReplace(&netlink.Route{Dst: ipNet(netip.PrefixFrom(r.far.ip[f], bits)), Gw: r.gate[f].AsSlice(), LinkIndex: int(r.uplink)}))
		r.lead(f, r.uplink)
		r.neighbour(f, netlink.NUD_PERMANENT)
	}
	return r
}

const ifaNoDAD = 2

func (r *routed) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (r *routed) link(index uint32) netlink.Link {
	r.Helper()
	link, err := netlink.LinkByIndex(int(index))
	r.must(err)
	return link
}

func (r *routed) up(index uint32, addr mac) {
	r.Helper()
	link := r.link(index)
	r.must(netlink.LinkSetHardwareAddr(link, addr[:]))
	r.must(netlink.LinkSetUp(link))
	peer, err := netlink.LinkByName(link.Attrs().Name + "p")
	r.must(err)
	r.must(netlink.LinkSetUp(peer))
}

// lead has the way to the other node's pods go by a device.
func (r *routed) lead(f int, dev uint32) {
	r.Helper()
	route := netlink.Route{Dst: r.dst(f), LinkIndex: int(dev)}
	if dev == r.uplink {
		route.Gw = r.gate[f].AsSlice()
	}
	r.must(netlink.RouteReplace(&route))
	r.tick()
}

func (r *routed) neighbour(f, state int) {
	r.Helper()
	r.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: int(r.uplink), Family: map[int]int{4: netlink.FAMILY_V4, 6: netlink.FAMILY_V6}[f],
		State: state, IP: r.gate[f].AsSlice(), HardwareAddr: r.far.mac[:]}))
	r.tick()
}

// tick has the programs ask for routes again, as they do when the kernel's clock ticks.
func (r *routed) tick() {
	r.Helper()
	r.must(emptyMap(r.objs.WeftRoutes))
}

// A route is asked for once a tick and flow, and each flow has its own.
func TestRoutesAreAskedForOnceATick(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		frame := func(port uint16) []byte { return sent(f, r.a, r.away, protoUDP, udp(port, 80)) }
		remembered := false
		for i := 0; i < 100 && !remembered; i++ { // a tick may end in between, or the test move to another CPU
			r.tick()
			v, _, _ := r.goes(frame(4000))
			routes := r.routes()
			if v != actRedirect || len(routes) != 1 || routes[0].Ifindex != r.uplink || routes[0].Mtu != 1500 {
				t.Fatalf("IPv%d: verdict %d, routes %+v", f, v, routes)
			}
			r.must(netlink.RouteDel(&netlink.Route{Dst: r.dst(f)}))
			v, _, _ = r.goes(frame(4000))
			if w, _, _ := r.goes(frame(4001)); w != actOK {
				t.Errorf("IPv%d: another flow without a route: verdict %d", f, w)
			}
			r.lead(f, r.uplink)
			remembered = v == actRedirect
		}
		if !remembered {
			t.Errorf("IPv%d: each packet asked for its route", f)
		}
	}
}

// A route of an earlier tick is asked for again, wherever it leads now.
func TestRoutesAreForgottenWithTheirTick(t *testing.T) {
	runtime.LockOSThread() // for good, as each CPU has its own: the thread ends with the test
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		r := newRouted(t)
		frame := sent(f, r.a, r.away, protoUDP, udp(4000, 80))
		r.goes(frame)
		r.must(netlink.RouteDel(&netlink.Route{Dst: r.dst(f)}))
		end := time.Now().Add(5 * time.Second)
		v, _, _ := r.goes(frame)
		for v != actOK && time.Now().Before(end) {
			v, _, _ = r.goes(frame)
		}
		if v != actOK {
			t.Errorf("IPv%d: verdict %d seconds after the route went", f, v)
		}
		r.lead(f, r.uplink)
	}
}

// routes are what the programs remember of routes.
func (r *routed) routes() (out []weftbpf.BpfWeftRouteRow) {
	r.Helper()
	for i := range r.objs.WeftRoutes.MaxEntries() {
		var per []weftbpf.BpfWeftRouteRow
		r.must(r.objs.WeftRoutes.Lookup(i, &per))
		for _, row := range per {
			if row.Ifindex != 0 {
				out = append(out, row)
			}
		}
	}
	return out
}

// dst is the range of the other node's pods.
func (r *routed) dst(f int) *net.IPNet {
	return ipNet(netip.PrefixFrom(r.away.ip[f], r.away.ip[f].BitLen()-8).Masked())
}

// goes sends a pod's frame.
func (r *routed) goes(frame []byte) (verdict, mark uint32, out []byte) {
	r.Helper()
	v, out, ctx := r.run(r.objs.WeftFromPod, skb{Ifindex: r.a.ifindex, Mark: 0xf00}, frame)
	return v, ctx.Mark, out
}

// comesFor is a frame of the other node's pod, as it comes in by the uplink.
func (r *routed) comesFor(f int, l4 []byte) []byte {
	return r.wired(f, between(f, r.away.at(f, 80), r.a.at(f, 4000), protoTCP, l4))
}

// wired frames what comes in: to the uplink's MAC.
func (r *routed) wired(f int, packet []byte) []byte {
	return eth(r.self.mac, r.far.mac, etherType(f), packet)
}

func TestPodsOfTwoNodesPassTheStackBy(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		out := sent(f, r.a, r.away, protoTCP, tcp(4000, 80, syn))
		passed := func(dir int) uint64 { p, _ := r.counter(0, dir); return p }
		for i, flags := range []byte{syn, ack} { // a new flow, an answered one
			out[len(out)-7] = flags
			v, mark, sent := r.goes(out)
			if v != actRedirect || mark != markInside || hops(f, sent) != hops(f, out)-1 {
				t.Errorf("IPv%d, out %d: verdict %d, mark %#x, %d hops", f, i, v, mark, hops(f, sent))
			}
			in := r.comesFor(f, tcp(80, 4000, map[byte]byte{syn: syn | ack, ack: ack}[flags]))
			v, got := r.comes(in)
			if v != actRedirect || mac(got[:6]) != r.a.mac || mac(got[6:12]) != r.a.gw || hops(f, got) != hops(f, in)-1 {
				t.Errorf("IPv%d, in %d: verdict %d, %d hops, %x", f, i, v, hops(f, got), got[:12])
			}
		}
		if e, i := passed(egress), passed(ingress); e != 2 || i != 2 {
			t.Errorf("IPv%d: %d passed out, %d in", f, e, i)
		}
		ct, answered := r.flow(f, r.a, r.away, 4000, 80, protoTCP)
		if ct == nil || !answered || ct.Packets != [2]uint64{2, 2} || ct.Identity != [2]uint32{r.a.identity, r.away.identity} {
			t.Errorf("IPv%d: the flow is %+v", f, ct)
		}
		if k := r.drain(); k != 1 {
			t.Errorf("IPv%d: %d events, want that of the new flow", f, k)
		}
	}
}

// Who is called from another node is asked for its policy at the uplink.
func TestPolicyOfPodsIsAskedAtTheUplink(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		r.a.row.Flags |= uint16(weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS)
		r.update(r.a)
		frame := r.comesFor(f, tcp(80, 4000, syn))
		r.dropped(policyDefault, ingress, func() uint32 { v, _ := r.comes(frame); return v })
		if e := r.event(); e.Slot != [2]uint16{0, r.a.slot} || e.Identity != [2]uint32{r.away.identity, r.a.identity} {
			t.Errorf("IPv%d: the event is %+v", f, e)
		}
		if ct, _ := r.flow(f, r.away, r.a, 80, 4000, protoTCP); ct != nil {
			t.Errorf("IPv%d: a refused flow is remembered", f)
		}
		r.a.row.Flags &^= uint16(weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS)
		r.update(r.a)
		r.passes(actRedirect, func() uint32 { v, _ := r.comes(frame); return v })
		r.a.row.Flags |= uint16(weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS) // an open flow hears of it
		r.update(r.a)
		frame = r.comesFor(f, tcp(80, 4000, ack))
		r.dropped(policyDefault, ingress, func() uint32 { v, _ := r.comes(frame); return v })
	}
}

// What the stack may have to answer, cut in pieces, drop or send elsewhere, it gets as
// it is, known flow or not.
func TestWhatTheStackMustSeeGoesThere(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		toStack := func(what string, frame []byte) {
			t.Helper()
			for range 2 {
				v, mark, out := r.goes(frame)
				if v != actOK || mark&^markInside != 0 || string(out) != string(frame) {
					t.Errorf("IPv%d: %s: verdict %d, mark %#x", f, what, v, mark)
				}
			}
		}
		plain := sent(f, r.a, r.away, protoUDP, udp(4000, 80))
		last := append([]byte{}, plain...)
		setHops(f, last, 1)
		toStack("the last hop", last)
		toStack("a large one", sent(f, r.a, r.away, protoUDP, udp(4000, 80, make([]byte, 1500)...)))
		other := append([]byte{}, plain...)
		other[5] ^= 0x40
		toStack("to another MAC", other)
		if f == 4 {
			toStack("with options", eth(r.a.gw, r.a.mac, ethIPv4, ip4(r.a.ip[4], r.away.ip[4], protoUDP, udp(4000, 80), ip4Opt{options: []byte{1, 1, 1, 0}})))
			toStack("a fragment", eth(r.a.gw, r.a.mac, ethIPv4, ip4(r.a.ip[4], r.away.ip[4], protoUDP, udp(4000, 80), ip4Opt{frag: 0x2000})))
		} else {
			toStack("with options", eth(r.a.gw, r.a.mac, ethIPv6, ip6(r.a.ip[6], r.away.ip[6], 60, 64, concat([]byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}, udp(4000, 80)))))
		}
		r.neighbour(f, netlink.NUD_FAILED)
		toStack("without a neighbour", plain)
		r.neighbour(f, netlink.NUD_PERMANENT)
		r.lead(f, r.wire)
		toStack("by a device that is no uplink", plain)
		r.lead(f, r.uplink)
		if v, _, _ := r.goes(plain); v != actRedirect {
			t.Errorf("IPv%d: what is nothing of all that: verdict %d", f, v)
		}
		node := &host{identity: 2, ip: r.gate}
		r.address(node, 2)
		toStack("to a node", sent(f, r.a, node, protoUDP, udp(4000, 80)))
		toStack("to the outside", sent(f, r.a, r.far, protoUDP, udp(4000, 80)))
	}
}

// By an uplink nobody can speak for others more than before: what the stack looks at, it
// still does, and conntrack has not heard of it.
func TestWhatComesForPodsOtherwiseGoesToTheStack(t *testing.T) {
	for _, f := range families {
		for _, known := range []bool{false, true} {
			r := newRouted(t)
			frame := r.comesFor(f, tcp(80, 4000, ack))
			if known {
				r.goes(sent(f, r.a, r.away, protoTCP, tcp(4000, 80, syn)))
				r.passes(actRedirect, func() uint32 { v, _ := r.comes(r.comesFor(f, tcp(80, 4000, syn|ack))); return v })
			}
			packets := func() (sum uint64) {
				if ct, _ := r.flow(f, r.a, r.away, 4000, 80, protoTCP); ct != nil {
					sum = ct.Packets[0] + ct.Packets[1]
				}
				return sum
			}
			before := packets()
			toStack := func(what string, dev uint32, frame []byte) {
				t.Helper()
				v, out, _ := r.run(r.objs.WeftFromNet, skb{Ifindex: dev, IngressIfindex: dev}, frame)
				if v != asIs || string(out) != string(frame) {
					t.Errorf("IPv%d, known %v: %s: verdict %d", f, known, what, v)
				}
				if packets() != before {
					t.Errorf("IPv%d, known %v: %s: conntrack has counted it", f, known, what)
				}
			}
			last := append([]byte{}, frame...)
			setHops(f, last, 1)
			toStack("the last hop", r.uplink, last)
			other := append([]byte{}, frame...)
			other[5] ^= 0x40
			toStack("to another MAC", r.uplink, other)
			toStack("by a device to which no way back leads", r.wire, frame)
			r.lead(f, r.wire)
			toStack("when the way back has moved", r.uplink, frame)
			r.lead(f, r.uplink)
			for what, src := range map[string]*host{"a local pod": r.b, "the host": r.self, "the world": r.far} {
				toStack("as "+what, r.uplink, r.wired(f, between(f, src.at(f, 80), r.a.at(f, 4000), protoTCP, tcp(80, 4000, ack))))
				if ct, _ := r.flow(f, src, r.a, 80, 4000, protoTCP); ct != nil {
					t.Errorf("IPv%d, known %v: as %s: conntrack has heard of it", f, known, what)
				}
			}
			toStack("for nobody", r.uplink, r.wired(f, between(f, r.away.at(f, 80), (&host{ip: addrs("10.0.0.99", "fd00::99")}).at(f, 4000), protoTCP, tcp(80, 4000, syn))))
			r.a.row.Mtu = 50
			r.update(r.a)
			toStack("too big", r.uplink, r.comesFor(f, tcp(80, 4000, ack, make([]byte, 40)...)))
		}
	}
}

// A flow that the proxy is to see goes to the stack, which leads there, both ways.
func TestFlowsOfTheProxyDoNotPassTheStackBy(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		out := sent(f, r.a, r.away, protoTCP, tcp(4000, 80, syn))
		r.goes(out)
		r.comes(r.comesFor(f, tcp(80, 4000, syn|ack)))
		r.change(f, r.a, r.away, 4000, 80, protoTCP, func(ct *weftbpf.BpfWeftCt) { ct.Ruleset = 7 })
		if v, _, _ := r.goes(sent(f, r.a, r.away, protoTCP, tcp(4000, 80, ack))); v != actOK {
			t.Errorf("IPv%d: out: verdict %d", f, v)
		}
		if v, _ := r.comes(r.comesFor(f, tcp(80, 4000, ack))); v != asIs {
			t.Errorf("IPv%d: in: verdict %d", f, v)
		}
	}
}

// Without a range all goes by the stack.
func TestWithoutARangeNothingPassesTheStackBy(t *testing.T) {
	for _, f := range families {
		r := newRouted(t)
		r.node = newUplink(t, nil)
		r.address(r.away, r.away.identity)
		if v, _, _ := r.goes(sent(f, r.a, r.away, protoTCP, tcp(4000, 80, syn))); v != actOK {
			t.Errorf("IPv%d: out: verdict %d", f, v)
		}
		if v, _ := r.comes(r.comesFor(f, tcp(80, 4000, syn|ack))); v != asIs {
			t.Errorf("IPv%d: in: verdict %d", f, v)
		}
	}
}

// BenchmarkDirect is what a packet between pods of two nodes pays at the pod's device and
// at the uplink that it comes in by.
func BenchmarkDirect(b *testing.B) {
	for _, f := range families {
		r := newRouted(b)
		r.goes(sent(f, r.a, r.away, protoTCP, tcp(4000, 80, syn)))
		r.comes(r.comesFor(f, tcp(80, 4000, syn|ack)))
		goes := r.repeat("out", r.objs.WeftFromPod, ebpf.AttachTCXIngress, skb{Ifindex: r.a.ifindex}, sent(f, r.a, r.away, protoTCP, tcp(4000, 80, ack)))
		comes := r.repeat("in", r.objs.WeftFromNet, ebpf.AttachTCXIngress, skb{Ifindex: r.uplink, IngressIfindex: r.uplink}, r.comesFor(f, tcp(80, 4000, ack)))
		for _, x := range []*repeated{goes, comes} {
			if v, _ := x.once(b); v != actRedirect {
				b.Fatalf("IPv%d, %s: verdict %d", f, x.name, v)
			}
		}
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) { compare(b, r.node, goes, comes) })
	}
}
