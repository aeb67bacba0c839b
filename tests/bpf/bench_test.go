// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// Where a frame has its transport, without options.
func transportAt(f int) int { return map[int]int{4: 34, 6: 54}[f] }

// benchNode has maps of the default size.
func benchNode(b *testing.B, change func(*weftbpf.BpfWeftConfig)) *node {
	b.Helper()
	return newNodeOn(b, loadSized(b, change, func(*ebpf.CollectionSpec) {}))
}

// BenchmarkEstablished is what a packet of a known flow costs, hot and with 10,000
// flows in turn, with what an empty program costs (some 37 ns).
func BenchmarkEstablished(b *testing.B) {
	for _, f := range families {
		n := benchNode(b, nil)
		for i := range uint16(manyFlows) {
			n.from(n.a, sent(f, n.a, n.far, protoTCP, tcp(1+i, 80, syn)))
			n.to(n.a, n.uplink, got(f, n.far, n.a, protoTCP, tcp(80, 1+i, syn|ack)))
		}
		answered, _ := n.tables(f)
		if have := n.count(answered); have != manyFlows {
			b.Fatalf("%d flows are answered, want %d", have, manyFlows)
		}
		out, in := sent(f, n.a, n.far, protoTCP, tcp(1000, 80, ack)), got(f, n.far, n.a, protoTCP, tcp(80, 1000, ack))
		outCtx, inCtx := skb{Ifindex: n.a.ifindex}, skb{Ifindex: n.a.ifindex, IngressIfindex: n.uplink}
		sport, dport := transportAt(f), transportAt(f)+2
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			compare(b, n,
				n.repeat("from_pod/hot", n.objs.WeftFromPod, ebpf.AttachTCXIngress, outCtx, out),
				n.repeat("to_pod/hot", n.objs.WeftToPod, ebpf.AttachTCXEgress, inCtx, in),
				n.rotate("from_pod/10000_flows", n.objs.WeftFromPod, ebpf.AttachTCXIngress, outCtx, out, sport, manyFlows),
				n.rotate("to_pod/10000_flows", n.objs.WeftToPod, ebpf.AttachTCXEgress, inCtx, in, dport, manyFlows))
		})
	}
}

// BenchmarkLocalDelivery is the whole way from pod to pod.
func BenchmarkLocalDelivery(b *testing.B) {
	for _, f := range families {
		n := benchNode(b, nil)
		n.open(f, n.a, n.b, 1000, 80)
		r := n.repeat("packet", n.objs.WeftFromPod, ebpf.AttachTCXIngress, skb{Ifindex: n.a.ifindex},
			sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack)))
		if v, _ := r.once(b); v != actRedirect {
			b.Fatalf("verdict %d", v)
		}
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) { compare(b, n, r) })
	}
}

// BenchmarkService is a packet of an established flow that bears the service's
// address, and its answer, beside the same between the pods themselves.
func BenchmarkService(b *testing.B) {
	for _, f := range families {
		n := benchNode(b, nil)
		n.service(f, protoTCP, n.b)
		pod, front, back := n.a.at(f, 4000), vip.at(f, 80), n.b.at(f, 8080)
		n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, syn))
		n.sends(n.b, f, back, pod, protoTCP, tcp(8080, 4000, syn|ack))
		n.open(f, n.a, n.b, 4001, 8080)
		frame := func(h *host, src, dst end) []byte {
			return eth(h.gw, h.mac, etherType(f), between(f, src, dst, protoTCP, tcp(src.Port(), dst.Port(), ack)))
		}
		from := func(name string, h *host, src, dst end) *repeated {
			return n.repeat(name, n.objs.WeftFromPod, ebpf.AttachTCXIngress, skb{Ifindex: h.ifindex}, frame(h, src, dst))
		}
		call, answer := from("call", n.a, pod, front), from("answer", n.b, back, pod)
		for r, want := range map[*repeated][2]end{call: {pod, back}, answer: {front, pod}} {
			v, out := r.once(b)
			if src, dst, _ := n.seen(f, out); v != actRedirect || src != want[0] || dst != want[1] {
				b.Fatalf("%s: verdict %d, from %s to %s", r.name, v, src, dst)
			}
		}
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			compare(b, n, call, answer, from("direct", n.a, n.a.at(f, 4001), back))
		})
	}
}

// BenchmarkMasquerade is one packet of a translated flow at the uplink, out and
// in, with another port than the pod's: the dearer case.
func BenchmarkMasquerade(b *testing.B) {
	for _, f := range families {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			n := newUplink(b, nil)
			pod, node, far := n.a.at(f, 4000), n.self.at(f, 50000), n.far.at(f, 80)
			n.put(n.natTable(f), natKey(f, natOut, pod, far, proto),
				weftbpf.BpfWeftNat{Addr: addr16(node.Addr()), Port: wire16(node.Port())})
			n.put(n.natTable(f), natKey(f, natIn, far, node, proto),
				weftbpf.BpfWeftNat{Addr: addr16(pod.Addr()), Port: wire16(pod.Port()), Flags: 1})
			leaves := n.repeat("out", n.objs.WeftToNet, ebpf.AttachTCXEgress, skb{Ifindex: n.uplink, IngressIfindex: n.a.ifindex},
				n.wire(f, between(f, pod, far, proto, message(f, proto, 4000, 80, false))))
			comes := n.repeat("in", n.objs.WeftFromNet, ebpf.AttachTCXIngress, skb{Ifindex: n.uplink, IngressIfindex: n.uplink},
				n.wire(f, between(f, far, node, proto, message(f, proto, 80, 50000, true))))
			for r, want := range map[*repeated][2]end{leaves: {node, far}, comes: {far, pod}} {
				_, out := r.once(b)
				if src, dst, _ := n.seen(f, out); src != want[0] || dst != want[1] {
					b.Fatalf("%s: from %s to %s", r.name, src, dst)
				}
			}
			name := map[uint8]string{protoTCP: "tcp", protoUDP: "udp"}[proto]
			b.Run(fmt.Sprintf("%s/v%d", name, f), func(b *testing.B) { compare(b, n, leaves, comes) })
		}
	}
}

// BenchmarkUplinkOfTheHost is what the host's own packets pay at an uplink.
func BenchmarkUplinkOfTheHost(b *testing.B) {
	for _, f := range families {
		n := newUplink(b, nil)
		own, far := n.self.at(f, 4000), n.far.at(f, 80)
		out := func(name string, proto uint8, l4 []byte) *repeated {
			return n.repeat(name, n.objs.WeftToNet, ebpf.AttachTCXEgress, skb{Ifindex: n.uplink}, n.wire(f, between(f, own, far, proto, l4)))
		}
		in := n.repeat("in/tcp", n.objs.WeftFromNet, ebpf.AttachTCXIngress, skb{Ifindex: n.uplink, IngressIfindex: n.uplink},
			n.wire(f, between(f, far, own, protoTCP, tcp(80, 4000, ack))))
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			compare(b, n, out("out/tcp", protoTCP, tcp(4000, 80, ack)), out("out/udp", protoUDP, udp(4000, 80)), in)
		})
	}
}
