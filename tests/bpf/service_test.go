// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	noBackend = weftbpf.BpfWeftReasonWEFT_DROP_NO_BACKEND
	testHz    = 250
)

// vip is the address of the test service.
var vip = &host{ip: addrs("10.96.0.10", "fd96::10")}

// service has backends on port 8080 of the hosts; it is called at port 80.
func (n *node) service(f int, proto uint8, hosts ...*host) {
	n.Helper()
	number := uint32(10*f) + uint32(proto)
	row := weftbpf.BpfWeftSvc{Service: number, Count: uint32(len(hosts))}
	if f == 4 {
		n.put(n.objs.WeftSvc4, weftbpf.BpfWeftSvc4Key{Addr: wire32(vip.ip[4]), Port: wire16(80), Proto: proto}, row)
	} else {
		n.put(n.objs.WeftSvc6, weftbpf.BpfWeftSvc6Key{Addr: vip.ip[6].As16(), Port: wire16(80), Proto: proto}, row)
	}
	for i, h := range hosts {
		backend := number*100 + uint32(i)
		n.put(n.objs.WeftBackend, backend, weftbpf.BpfWeftBackendRow{
			Addr: addr16(h.ip[f]), Port: wire16(8080), Family: uint8(f), State: 1, Proto: proto,
		})
		n.put(n.objs.WeftSvcSlot, weftbpf.BpfWeftSlotKey{Service: number, Index: uint32(i)}, backend)
	}
}

// sends gives a packet of a pod to its device, and reads what becomes of it.
func (n *node) sends(h *host, f int, src, dst end, proto uint8, l4 []byte) (verdict uint32, from, to end, out []byte) {
	n.Helper()
	frame := eth(h.gw, h.mac, etherType(f), between(f, src, dst, proto, l4))
	verdict, out, _ = n.run(n.objs.WeftFromPod, skb{Ifindex: h.ifindex}, frame)
	from, to, _ = n.seen(f, out)
	return verdict, from, to, out
}

func eachService(t *testing.T, run func(t *testing.T, f int, proto uint8)) {
	for _, f := range families {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) { run(t, f, proto) })
		}
	}
}

// A call of a service that no socket program translated reaches the backend, and
// its answer comes from the service.
func TestServiceOfPackets(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, proto: proto, port: 8080, bits: 16, action: allow})
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.b.at(f, 8080)
		for i := range 3 {
			v, from, to, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false))
			if v != actRedirect || from != pod || to != back {
				t.Fatalf("call %d: verdict %d, from %s to %s", i, v, from, to)
			}
			v, from, to, _ = n.sends(n.b, f, back, pod, proto, message(f, proto, 8080, 4000, true))
			if v != actRedirect || from != front || to != pod {
				t.Fatalf("answer %d: verdict %d, from %s to %s", i, v, from, to)
			}
		}
		ct, answered := n.flow(f, n.a, n.b, 4000, 8080, proto)
		if ct == nil || !answered || ct.Packets != [2]uint64{3, 3} && proto == protoUDP {
			t.Errorf("the flow is %+v, answered %t", ct, answered)
		}
		// One that the pod sends to the backend itself is not the service's.
		v, from, to, _ := n.sends(n.a, f, n.a.at(f, 4001), back, proto, message(f, proto, 4001, 8080, false))
		if v != actRedirect || to != back {
			t.Errorf("direct: verdict %d, from %s to %s", v, from, to)
		}
		v, from, to, _ = n.sends(n.b, f, back, n.a.at(f, 4001), proto, message(f, proto, 8080, 4001, true))
		if v != actRedirect || from != back {
			t.Errorf("answer to the direct one: verdict %d, from %s to %s", v, from, to)
		}
	})
}

// Policy is asked about the backend, not about the service's address.
func TestServiceMeetsThePolicyOfItsBackend(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		n.policy(n.b, entry{dir: ingress, peer: n.c.identity, action: allow})
		n.dropped(policyDefault, ingress, func() uint32 {
			v, _, _, _ := n.sends(n.a, f, n.a.at(f, 4000), vip.at(f, 80), proto, message(f, proto, 4000, 80, false))
			return v
		})
	})
}

// A backend that is no pod of the node answers through the host's stack.
func TestServiceWithABackendElsewhere(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.far)
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.far.at(f, 8080)
		v, _, to, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false))
		if v != actOK || to != back {
			t.Fatalf("the call: verdict %d, to %s", v, to)
		}
		for i := range 2 {
			frame := eth(n.a.mac, n.a.gw, etherType(f), between(f, back, pod, proto, message(f, proto, 8080, 4000, true)))
			v, out, _ := n.run(n.objs.WeftToPod, skb{Ifindex: n.a.ifindex, IngressIfindex: n.uplink}, frame)
			from, to, _ := n.seen(f, out)
			if v != actOK || from != front || to != pod {
				t.Errorf("answer %d: verdict %d, from %s to %s", i, v, from, to)
			}
		}
	})
}

// A pod that is its own backend sees the service at both ends.
func TestServiceOfThePodItself(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { short(c); c.Hz = testHz })
		n.service(f, proto, n.a)
		n.policy(n.a) // isolated both ways: nobody is kept from himself
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.a.at(f, 8080)
		for i := range 2 {
			v, from, to, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false))
			if v != actRedirect || from != vip.at(f, 4000) || to != back {
				t.Fatalf("call %d: verdict %d, from %s to %s", i, v, from, to)
			}
			v, from, to, _ = n.sends(n.a, f, back, vip.at(f, 4000), proto, message(f, proto, 8080, 4000, true))
			if v != actRedirect || from != front || to != pod {
				t.Fatalf("answer %d: verdict %d, from %s to %s", i, v, from, to)
			}
		}
		if stats := n.natGC(); stats.Live != 1 || stats.Expired != 0 {
			t.Errorf("collected %+v, but the flow is alive", stats)
		}
		n.ages(f, natFwd, pod, front, proto, 500)
		n.ages(f, natBack, back, pod, proto, 500)
		want := uint64(1) // datagrams: silent for too long
		if proto == protoTCP {
			want = 0
		}
		if stats := n.natGC(); stats.Expired != want {
			t.Errorf("collected %+v after a silence, want %d", stats, want)
		}
		if proto != protoTCP {
			return
		}
		n.sends(n.a, f, pod, front, proto, tcp(4000, 80, ack|fin))
		n.sends(n.a, f, back, vip.at(f, 4000), proto, tcp(8080, 4000, ack|fin))
		n.ages(f, natFwd, pod, front, proto, 20)
		n.ages(f, natBack, back, pod, proto, 20)
		if stats := n.natGC(); stats.Expired != 1 || n.count(n.natTable(f)) != 0 {
			t.Errorf("collected %+v after both sides have ended", stats)
		}
	})
}

// ages makes a key look as if it was last seen that many seconds ago.
func (n *node) ages(f int, kind weftbpf.BpfWeftNatKind, src, dst end, proto uint8, seconds uint32) {
	n.Helper()
	v := n.nat(f, kind, src, dst, proto)
	if v == nil {
		n.Fatalf("no key from %s to %s", src, dst)
	}
	v.Seen -= seconds * testHz
	v.Created -= seconds * testHz
	n.put(n.natTable(f), natKey(f, kind, src, dst, proto), v)
}

// Nobody serves: the pod is told at once, in its protocol's way.
func TestServiceWithoutBackends(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.service(f, protoTCP)
		n.service(f, protoUDP)
		pod, front := n.a.at(f, 4000), vip.at(f, 80)
		segment := tcp(4000, 80, syn)
		be.PutUint32(segment[4:], 777)
		v, from, to, out := n.sends(n.a, f, pod, front, protoTCP, segment)
		l4 := out[14+map[int]int{4: 20, 6: 40}[f]:]
		if v != actRedirect || from != front || to != pod || l4[13] != rst|ack || be.Uint32(l4[8:]) != 778 || len(l4) != 20 {
			t.Errorf("IPv%d, a SYN: verdict %d, from %s to %s, %x", f, v, from, to, l4)
		}
		segment = tcp(4000, 80, ack, 1, 2, 3)
		be.PutUint32(segment[8:], 999)
		v, _, _, out = n.sends(n.a, f, pod, front, protoTCP, segment)
		l4 = out[14+map[int]int{4: 20, 6: 40}[f]:]
		if v != actRedirect || l4[13] != rst || be.Uint32(l4[4:]) != 999 {
			t.Errorf("IPv%d, in the middle: verdict %d, %x", f, v, l4)
		}
		if v, _, _, _ = n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, rst)); v != actShot {
			t.Errorf("IPv%d: a reset is answered: verdict %d", f, v)
		}

		datagram := between(f, pod, front, protoUDP, udp(4000, 80, make([]byte, 100)...))
		v, out, _ = n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, eth(n.a.gw, n.a.mac, etherType(f), datagram))
		from, to, l4 = n.seen(f, out)
		head := map[int]int{4: 20, 6: 40}[f]
		kind := map[int][2]byte{4: {3, 3}, 6: {1, 4}}[f]
		if v != actRedirect || from.Addr() != front.Addr() || to.Addr() != pod.Addr() || [2]byte(l4) != kind {
			t.Errorf("IPv%d, a datagram: verdict %d, from %s to %s, %x", f, v, from, to, l4)
		}
		if quote := l4[8:]; string(quote) != string(datagram[:head+8]) {
			t.Errorf("IPv%d: quoted is\n%x of\n%x", f, quote, datagram)
		}
		if c, _ := n.counter(noBackend, egress); c != 4 {
			t.Errorf("IPv%d: %d packets counted, want 4", f, c)
		}
		n.put(n.objs.WeftMetrics, uint32(noBackend)*2, make([]weftbpf.BpfWeftCounter, ebpf.MustPossibleCPU()))
	}
}

// A backend that is gone ends its connections; datagrams go to another one.
func TestServiceLosesABackend(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		pod, front := n.a.at(f, 4000), vip.at(f, 80)
		if v, _, to, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false)); v != actRedirect || to != n.b.at(f, 8080) {
			t.Fatalf("verdict %d, to %s", v, to)
		}
		n.sends(n.b, f, n.b.at(f, 8080), pod, proto, message(f, proto, 8080, 4000, true))
		number := uint32(10*f) + uint32(proto)
		if err := n.objs.WeftBackend.Delete(number * 100); err != nil {
			t.Fatal(err)
		}
		n.put(n.objs.WeftBackend, uint32(7), weftbpf.BpfWeftBackendRow{
			Addr: addr16(n.c.ip[f]), Port: wire16(8080), Family: uint8(f), State: 1, Proto: proto,
		})
		n.put(n.objs.WeftSvcSlot, weftbpf.BpfWeftSlotKey{Service: number}, uint32(7))
		if proto == protoTCP {
			_, from, to, out := n.sends(n.a, f, pod, front, proto, tcp(4000, 80, ack, 1))
			if l4 := out[len(out)-20:]; from != front || to != pod || l4[13] != rst {
				t.Errorf("the connection got %x, from %s to %s", l4, from, to)
			}
		}
		if v, _, to, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false)); v != actRedirect || to != n.c.at(f, 8080) {
			t.Errorf("afterwards: verdict %d, to %s", v, to)
		}
	})
}

// Both keys end with the flow in conntrack.
func TestServiceKeysEndWithTheirFlow(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { short(c); c.Hz = testHz })
		n.service(f, proto, n.b)
		n.sends(n.a, f, n.a.at(f, 4000), vip.at(f, 80), proto, message(f, proto, 4000, 80, false))
		if got := n.count(n.natTable(f)); got != 2 {
			t.Fatalf("%d keys, want 2", got)
		}
		n.change(f, n.a, n.b, 4000, 8080, proto, func(ct *weftbpf.BpfWeftCt) { ct.Seen -= 60 * testHz })
		if stats := n.gc(); stats.Expired != 1 {
			t.Errorf("collected %+v", stats)
		}
		if got := n.count(n.natTable(f)); got != 0 {
			t.Errorf("%d keys are left", got)
		}
	})
}

// Later fragments follow their first one both ways.
func TestServiceOfFragments(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.service(f, protoUDP, n.b)
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.b.at(f, 8080)
		body := make([]byte, 64)
		for i, way := range []struct {
			sender               *host
			src, dst             end
			wantSrc, wantDst     netip.Addr
			sport, dport         uint16
			wantSport, wantDport uint16
		}{
			{n.a, pod, front, pod.Addr(), back.Addr(), 4000, 80, 4000, 8080},
			{n.b, back, pod, front.Addr(), pod.Addr(), 8080, 4000, 80, 4000},
		} {
			first := n.fragment(f, way.sender, way.src, way.dst, uint32(i+1), true, udp(way.sport, way.dport, body...))
			v, out, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: way.sender.ifindex}, first)
			src, dst, l4 := addressesOf(f, out)
			if f == 6 {
				l4 = l4[8:]
			}
			if v != actRedirect || src != way.wantSrc || dst != way.wantDst || be.Uint16(l4) != way.wantSport || be.Uint16(l4[2:]) != way.wantDport {
				t.Errorf("IPv%d, first from %s: verdict %d, from %s to %s, %x", f, way.src, v, src, dst, l4[:8])
			}
			later := n.fragment(f, way.sender, way.src, way.dst, uint32(i+1), false, body)
			v, out, _ = n.run(n.objs.WeftFromPod, skb{Ifindex: way.sender.ifindex}, later)
			if src, dst, _ := addressesOf(f, out); v != actRedirect || src != way.wantSrc || dst != way.wantDst {
				t.Errorf("IPv%d, later from %s: verdict %d, from %s to %s", f, way.src, v, src, dst)
			}
		}
	}
}

// A later fragment has no header of TCP that a reset could answer.
func TestLaterFragmentIsNotAnsweredWithAReset(t *testing.T) {
	n := newNode(t)
	n.service(4, protoTCP, n.b)
	pod, front := n.a.at(4, 4000).Addr(), vip.at(4, 80).Addr()
	send := func(l4 []byte, frag uint16) int {
		packet := ip4(pod, front, protoTCP, l4, ip4Opt{id: 7, frag: frag})
		v, _, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, eth(n.a.gw, n.a.mac, etherType(4), packet))
		return int(v)
	}
	if v := send(tcp(4000, 80, ack, make([]byte, 60)...), 0x2000); v != actRedirect {
		t.Fatalf("the first one: verdict %d", v)
	}
	if err := n.objs.WeftBackend.Delete(uint32(4*10+protoTCP) * 100); err != nil {
		t.Fatal(err)
	}
	if v := send(make([]byte, 64), 10); v != actShot {
		t.Errorf("the later one: verdict %d", v)
	}
	if c, _ := n.counter(noBackend, egress); c != 1 {
		t.Errorf("%d packets counted, want 1", c)
	}
}

func (n *node) fragment(f int, h *host, src, dst end, id uint32, first bool, l4 []byte) []byte {
	offset := uint16(0)
	if !first {
		offset = 100
	}
	p := ip6(src.Addr(), dst.Addr(), 44, 64, concat(frag6(protoUDP, offset, first, id), l4))
	if f == 4 {
		if first {
			offset = 0x2000
		}
		p = ip4(src.Addr(), dst.Addr(), protoUDP, l4, ip4Opt{id: uint16(id), frag: offset})
	}
	return eth(h.gw, h.mac, etherType(f), p)
}

// addressesOf reads the addresses of a frame whose transport may be cut.
func addressesOf(f int, frame []byte) (src, dst netip.Addr, rest []byte) {
	p := frame[14:]
	if f == 4 {
		src, _ = netip.AddrFromSlice(p[12:16])
		dst, _ = netip.AddrFromSlice(p[16:20])
		return src, dst, p[20:]
	}
	src, _ = netip.AddrFromSlice(p[8:24])
	dst, _ = netip.AddrFromSlice(p[24:40])
	return src, dst, p[40:]
}

// ICMP errors speak of the service to whom called it, and of the backend to it.
func TestServiceErrors(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.service(f, protoUDP, n.b)
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.b.at(f, 8080)
		n.sends(n.a, f, pod, front, protoUDP, udp(4000, 80))
		proto, _, _ := echo(f)
		unreachable := map[int][2]uint8{4: {3, 3}, 6: {1, 4}}[f]
		quote := func(src, dst end, sport, dport uint16) []byte {
			return icmp(unreachable[0], unreachable[1], 0, between(f, src, dst, protoUDP, udp(sport, dport))...)
		}
		v, from, to, out := n.sends(n.b, f, netip.AddrPortFrom(back.Addr(), 0), netip.AddrPortFrom(pod.Addr(), 0), proto, quote(pod, back, 4000, 8080))
		_, quotedTo, ports := addressesOf(f, append(make([]byte, 14), out[14+map[int]int{4: 20, 6: 40}[f]+8:]...))
		if v != actRedirect || from.Addr() != front.Addr() || to.Addr() != pod.Addr() || quotedTo != front.Addr() || be.Uint16(ports[2:]) != 80 {
			t.Errorf("IPv%d, to the caller: verdict %d, from %s to %s, about %s port %d", f, v, from, to, quotedTo, be.Uint16(ports[2:]))
		}
		n.sends(n.b, f, back, pod, protoUDP, udp(8080, 4000))
		v, from, to, out = n.sends(n.a, f, netip.AddrPortFrom(pod.Addr(), 0), netip.AddrPortFrom(front.Addr(), 0), proto, quote(front, pod, 80, 4000))
		quotedFrom, _, ports := addressesOf(f, append(make([]byte, 14), out[14+map[int]int{4: 20, 6: 40}[f]+8:]...))
		if v != actRedirect || from.Addr() != pod.Addr() || to.Addr() != back.Addr() || quotedFrom != back.Addr() || be.Uint16(ports) != 8080 {
			t.Errorf("IPv%d, to the backend: verdict %d, from %s to %s, about %s port %d", f, v, from, to, quotedFrom, be.Uint16(ports))
		}
	}
}

// A flow that the pod opened to the backend itself keeps its answers: the service
// cannot lead to the same backend from the same port.
func TestServiceAndDirectFlowFromOnePort(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.b.at(f, 8080)
		n.sends(n.a, f, pod, back, proto, message(f, proto, 4000, 8080, false))
		n.dropped(natFull, egress, func() uint32 {
			v, _, _, _ := n.sends(n.a, f, pod, front, proto, message(f, proto, 4000, 80, false))
			return v
		})
		if v, from, _, _ := n.sends(n.b, f, back, pod, proto, message(f, proto, 8080, 4000, true)); v != actRedirect || from != back {
			t.Errorf("verdict %d, the answer comes from %s", v, from)
		}
	})
}
