// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// askedPlaces is how many unanswered flows to pods' ports there may be in these tests.
const askedPlaces = 16

func fewAsked(c *weftbpf.BpfWeftConfig) { c.AskedMax = askedPlaces }

// hostPort leads a port of the host's to a port of the pod's.
func (n *node) hostPort(f int, proto uint8, at, pod end, flags weftbpf.BpfWeftSvcFlag) {
	n.Helper()
	number := uint32(1000*f) + uint32(proto)
	row := weftbpf.BpfWeftSvc{Service: number, Count: 1, Flags: uint8(flags)}
	if f == 4 {
		n.put(n.objs.WeftSvc4, weftbpf.BpfWeftSvc4Key{Addr: wire32(at.Addr()), Port: wire16(at.Port()), Proto: proto}, row)
	} else {
		n.put(n.objs.WeftSvc6, weftbpf.BpfWeftSvc6Key{Addr: at.Addr().As16(), Port: wire16(at.Port()), Proto: proto}, row)
	}
	n.put(n.objs.WeftBackend, number, weftbpf.BpfWeftBackendRow{Addr: addr16(pod.Addr()), Port: wire16(pod.Port()),
		Family: uint8(f), State: 1, Proto: proto})
	n.put(n.objs.WeftSvcSlot, weftbpf.BpfWeftSlotKey{Service: number}, number)
	n.put(n.objs.WeftPorts, uint32(0), weftbpf.BpfWeftPortsRow{Fronts: 1})
}

const (
	svcPort = weftbpf.BpfWeftSvcFlagWEFT_SVC_PORT
	svcOwn  = weftbpf.BpfWeftSvcFlagWEFT_SVC_OWN
)

// ported is a pod's port of the host's and a client outside.
type ported struct {
	*node
	f                 int
	proto             uint8
	client, host, pod end
}

// eachPort runs a test for a pod's port of both families and each protocol. The
// uplink does not masquerade.
func eachPort(t *testing.T, change func(*weftbpf.BpfWeftConfig), run func(t *testing.T, p ported)) {
	for _, f := range families {
		for _, proto := range []uint8{protoTCP, protoUDP, protoSCTP} {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) {
				n := newUplink(t, change)
				n.put(n.objs.WeftUplink, n.uplink, weftbpf.BpfWeftUplinkRow{})
				p := ported{node: n, f: f, proto: proto, client: n.far.at(f, 4000), host: n.self.at(f, 8080), pod: n.a.at(f, 80)}
				if proto == protoSCTP { // keeps its port
					p.pod = n.a.at(f, 8080)
				}
				n.hostPort(f, proto, p.host, p.pod, svcPort)
				run(t, p)
			})
		}
	}
}

// says is the transport of a packet: the first one of a flow, or its answer.
func (p ported) says(src, dst end, answer bool) []byte {
	if p.proto == protoSCTP {
		return sctp(src.Port(), dst.Port())
	}
	return message(p.f, p.proto, src.Port(), dst.Port(), answer)
}

// asks sends a first packet from outside, and reads what the uplink makes of it.
func (p ported) asks(client end) (src, dst end, out []byte) {
	p.Helper()
	v, out := p.comes(p.wire(p.f, between(p.f, client, p.host, p.proto, p.says(client, p.host, false))))
	if src, dst, _ = p.seen(p.f, out); v != asIs {
		p.Fatalf("verdict %d", v)
	}
	return src, dst, out
}

// deliver gives what the uplink made of a packet to the pod's device.
func (p ported) deliver(out []byte) uint32 {
	return p.to(p.a, p.uplink, eth(p.a.mac, p.a.gw, etherType(p.f), out[14:]))
}

// answers sends the pod's answer, and reads what leaves by the uplink.
func (p ported) answers() (src, dst end) {
	p.Helper()
	v, out := p.goesOut(p.a, p.f, between(p.f, p.pod, p.client, p.proto, p.says(p.pod, p.client, true)))
	if src, dst, _ = p.seen(p.f, out); v != asIs {
		p.Fatalf("verdict %d", v)
	}
	return src, dst
}

// From outside a port of the host's leads to the pod, whose policy sees the client;
// the client sees the host.
func TestPortOfAPod(t *testing.T) {
	eachPort(t, nil, func(t *testing.T, p ported) {
		p.address(p.far, 1<<24)
		p.policy(p.a, entry{dir: ingress, peer: 1 << 24, proto: p.proto, port: p.pod.Port(), bits: 16, action: allow})
		for i := range 3 {
			src, dst, out := p.asks(p.client)
			if src != p.client || dst != p.pod {
				t.Fatalf("packet %d comes from %s to %s", i, src, dst)
			}
			p.passes(actOK, func() uint32 { return p.deliver(out) })
			if src, dst = p.answers(); src != p.host || dst != p.client {
				t.Fatalf("answer %d leaves from %s to %s", i, src, dst)
			}
		}
		p.keys("of one flow", p.f, 2)
		ct, answered := p.flow(p.f, p.far, p.a, 4000, p.pod.Port(), p.proto)
		if ct == nil || !answered || ct.Identity[0] != 1<<24 || ct.Flags&uint8(weftbpf.BpfWeftCtFlagWEFT_CT_NAT) == 0 {
			t.Errorf("the flow is %+v, answered %t", ct, answered)
		}
	})
}

// What opens no flow, is for another port or for what is served inside the cluster
// alone, is the host's.
func TestPortsThatAreTheHosts(t *testing.T) {
	eachPort(t, nil, func(t *testing.T, p ported) {
		untouched := func(what string, dst end, l4 []byte) {
			frame := p.wire(p.f, between(p.f, p.client, dst, p.proto, l4))
			if v, out := p.comes(frame); v != asIs || !bytes.Equal(out, frame) {
				t.Errorf("%s: verdict %d, left as\n%x", what, v, out)
			}
		}
		other := p.self.at(p.f, 8081)
		untouched("another port", other, p.says(p.client, other, false))
		p.service(p.f, p.proto, p.b)
		untouched("a service", vip.at(p.f, 80), p.says(p.client, vip.at(p.f, 80), false))
		if p.proto == protoTCP {
			for what, flags := range map[string]byte{"in the middle": ack, "answer": syn | ack, "reset": rst, "end": fin | ack} {
				untouched(what, p.host, tcp(4000, 8080, flags))
			}
		}
		p.hostPort(p.f, p.proto, p.host, p.pod, svcOwn)
		untouched("the host's own processes alone", p.host, p.says(p.client, p.host, false))
		v, _, to, _ := p.sends(p.b, p.f, p.b.at(p.f, 4000), p.host, p.proto, p.says(p.b.at(p.f, 4000), p.host, false))
		if v != actOK || to != p.host {
			t.Errorf("a pod came to what is for the host's own processes: verdict %d, to %s", v, to)
		}
		p.hostPort(p.f, p.proto, p.host, p.pod, svcPort)
		p.put(p.objs.WeftPorts, uint32(0), weftbpf.BpfWeftPortsRow{})
		untouched("while there are none", p.host, p.says(p.client, p.host, false))
		p.keys("untouched", p.f, 0)
	})
}

// A flow that is refused keeps no keys; one that ends takes them along.
func TestPortsKeysEnd(t *testing.T) {
	eachPort(t, short, func(t *testing.T, p ported) {
		p.policy(p.a, entry{dir: ingress, peer: p.b.identity, action: allow})
		_, _, out := p.asks(p.client)
		p.dropped(policyDefault, ingress, func() uint32 { return p.deliver(out) })
		p.keys("refused", p.f, 0)

		p.policy(p.a, entry{dir: ingress, action: allow})
		_, _, out = p.asks(p.client)
		p.passes(actOK, func() uint32 { return p.deliver(out) })
		p.answers()
		p.age(p.f, natOut, p.pod, p.client, p.proto, longAgo)
		p.age(p.f, natIn, p.client, p.host, p.proto, longAgo)
		if s := p.natGC(); s.Live != 1 {
			t.Errorf("with its flow: %+v", s)
		}
		p.change(p.f, p.far, p.a, 4000, p.pod.Port(), p.proto, func(ct *weftbpf.BpfWeftCt) { ct.Seen -= longAgo })
		p.gc()
		p.keys("after the flow's end", p.f, 0)
	})
}

// A flood that nobody answers, and that perhaps never comes to the pod, holds no more
// keys than there are places; resets are no answers.
func TestUnansweredFlowsToPortsAreBounded(t *testing.T) {
	eachPort(t, fewAsked, func(t *testing.T, p ported) {
		if p.proto == protoSCTP {
			return
		}
		for i := range uint16(3 * askedPlaces) {
			client := p.far.at(p.f, 1000+i)
			p.asks(client)
			if p.proto == protoTCP {
				p.leaves(p.a.ifindex, p.wire(p.f, between(p.f, p.pod, client, protoTCP, tcp(p.pod.Port(), client.Port(), rst|ack))))
			}
		}
		p.keys("after a flood", p.f, 2*askedPlaces)
	})
}

// An answered flow outlives a flood.
func TestAnsweredFlowToAPortOutlivesAFlood(t *testing.T) {
	eachPort(t, fewAsked, func(t *testing.T, p ported) {
		_, _, out := p.asks(p.client)
		p.passes(actOK, func() uint32 { return p.deliver(out) })
		p.answers()
		for i := range uint16(3 * askedPlaces) {
			p.asks(p.far.at(p.f, 5000+i))
		}
		if p.nat(p.f, natIn, p.client, p.host, p.proto) == nil || p.nat(p.f, natOut, p.pod, p.client, p.proto) == nil {
			t.Error("the answered flow has lost its keys")
		}
	})
}

// When the pod is gone its flows are over: what goes on is the host's, a new flow or
// datagram comes to who has the port now, and keys go also where nothing is heard.
func TestPortPassesToAnotherPod(t *testing.T) {
	eachPort(t, nil, func(t *testing.T, p ported) {
		p.asks(p.client)
		if err := p.objs.WeftBackend.Delete(uint32(1000*p.f) + uint32(p.proto)); err != nil {
			t.Fatal(err)
		}
		p.natGC()
		p.keys("of a pod that is gone", p.f, 0)

		p.hostPort(p.f, p.proto, p.host, p.pod, svcPort)
		if _, dst, _ := p.asks(p.client); dst != p.pod {
			t.Errorf("when the pod is back, the first packet comes to %s", dst)
		}
		next, number := p.b.at(p.f, p.pod.Port()), uint32(9000+p.f)
		if err := p.objs.WeftBackend.Delete(uint32(1000*p.f) + uint32(p.proto)); err != nil {
			t.Fatal(err)
		}
		p.put(p.objs.WeftBackend, number, weftbpf.BpfWeftBackendRow{Addr: addr16(next.Addr()), Port: wire16(next.Port()),
			Family: uint8(p.f), State: 1, Proto: p.proto})
		p.put(p.objs.WeftSvcSlot, weftbpf.BpfWeftSlotKey{Service: uint32(1000*p.f) + uint32(p.proto)}, number)
		if p.proto == protoTCP {
			_, out := p.comes(p.wire(p.f, between(p.f, p.client, p.host, p.proto, tcp(4000, 8080, ack))))
			if _, dst, _ := p.seen(p.f, out); dst != p.host {
				t.Errorf("a connection to the pod that is gone goes on to %s", dst)
			}
		}
		if _, dst, _ := p.asks(p.client); dst != next {
			t.Errorf("the next flow comes to %s, want %s", dst, next)
		}
	})
}

// Errors about a flow to a port name the pod towards the pod, and the host towards
// the client, be it the pod's error or the host's own.
func TestErrorsAboutFlowsToPorts(t *testing.T) {
	eachPort(t, nil, func(t *testing.T, p ported) {
		if p.proto == protoSCTP {
			return
		}
		_, _, out := p.asks(p.client)
		p.passes(actOK, func() uint32 { return p.deliver(out) })
		quoted := between(p.f, p.client, p.pod, p.proto, p.says(p.client, p.pod, false))
		router := &host{ip: addrs("203.0.113.9", "2001:db8:9::9")}
		for what, kind := range errorsOf(p.f) {
			for _, from := range []end{p.pod, p.self.at(p.f, 0)} {
				frame := p.wire(p.f, about(p.f, from, p.client, kind, quoted))
				in := p.a.ifindex
				if from.Addr() == p.self.ip[p.f] {
					in = 0
				}
				_, out := p.leaves(in, frame)
				src, dst, l4 := p.seen(p.f, out)
				if src.Addr() != p.self.ip[p.f] || dst.Addr() != p.client.Addr() {
					t.Errorf("%s of %s leaves from %s to %s", what, from, src, dst)
				}
				p.quotes(p.f, l4, p.client, p.host)
			}
			answer := between(p.f, p.host, p.client, p.proto, p.says(p.host, p.client, true))
			_, out := p.comes(p.wire(p.f, about(p.f, router.at(p.f, 0), p.self.at(p.f, 0), kind, answer)))
			src, dst, l4 := p.seen(p.f, out)
			if src.Addr() != router.ip[p.f] || dst.Addr() != p.pod.Addr() {
				t.Errorf("%s comes from %s to %s", what, src, dst)
			}
			p.quotes(p.f, l4, p.pod, p.client)
		}
	})
}

// A datagram in pieces comes to the pod whole, and its sum is right.
func TestFragmentsToAPort(t *testing.T) {
	eachPort(t, nil, func(t *testing.T, p ported) {
		if p.proto == protoSCTP {
			return
		}
		body := append(p.says(p.client, p.host, false), bytes.Repeat([]byte{1, 2, 3, 4}, 20)...)
		l4 := summed(p.f, p.client.Addr(), p.host.Addr(), p.proto, body)
		var whole []byte
		for _, cut := range [][2]int{{0, 40}, {40, 64}, {64, len(l4)}} {
			v, out := p.comes(p.wire(p.f, piece(p.f, p.far, p.self, p.proto, 77, l4, cut[0], cut[1])))
			if _, dst := ends(p.f, out); v != asIs || dst != string(p.pod.Addr().AsSlice()) {
				t.Fatalf("the piece from %d: verdict %d, to %x", cut[0], v, dst)
			}
			p.passes(actOK, func() uint32 { return p.deliver(out) })
			whole = append(whole, partOf(p.f, out)...)
		}
		if s := transportSum(p.client.Addr(), p.pod.Addr(), p.proto, whole); s != 0 || be.Uint16(whole[2:]) != p.pod.Port() {
			t.Errorf("to port %d, the sum is off by %#x", be.Uint16(whole[2:]), s)
		}
	})
}

// What the host itself and translated pods send has no source port whose answers
// would come to a pod.
func TestAnswersAreNotTakenForAPort(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		for _, proto := range []uint8{protoTCP, protoUDP} {
			n.hostPort(f, proto, n.self.at(f, 8080), n.b.at(f, 80), svcPort)
			if at := n.translated(f, n.a, proto, 8080, 443); at.Port() == 8080 {
				t.Errorf("IPv%d, protocol %d: a pod's flow leaves from a pod's port", f, proto)
			}
		}
		own := between(f, n.self.at(f, 8080), n.far.at(f, 53), protoUDP, udp(8080, 53))
		_, out := n.leaves(0, n.wire(f, own))
		at, _, _ := n.seen(f, out)
		if at.Addr() != n.self.ip[f] || at.Port() == 8080 {
			t.Fatalf("IPv%d: the host's own leaves from %s", f, at)
		}
		_, out = n.comes(n.wire(f, between(f, n.far.at(f, 53), at, protoUDP, udp(53, at.Port()))))
		if _, dst, _ := n.seen(f, out); dst != n.self.at(f, 8080) {
			t.Errorf("IPv%d: its answer comes to %s", f, dst)
		}
	}
}
