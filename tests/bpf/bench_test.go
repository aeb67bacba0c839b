// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// BenchmarkEstablished is what a packet of a known flow costs, with the floor of
// an empty program (about 37 ns). Rounds are short, so that the fastest is not
// interrupted.
func BenchmarkEstablished(b *testing.B) {
	for _, f := range families {
		n := newNode(b)
		n.from(n.a, sent(f, n.a, n.far, protoTCP, tcp(1000, 80, syn)))
		n.to(n.a, n.uplink, got(f, n.far, n.a, protoTCP, tcp(80, 1000, syn|ack)))
		b.Run(fmt.Sprintf("from_pod/v%d", f), func(b *testing.B) {
			fastest(b, n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, 5_000, 400,
				sent(f, n.a, n.far, protoTCP, tcp(1000, 80, ack)))
		})
		b.Run(fmt.Sprintf("to_pod/v%d", f), func(b *testing.B) {
			fastest(b, n.objs.WeftToPod, skb{Ifindex: n.a.ifindex, IngressIfindex: n.uplink}, 5_000, 400,
				got(f, n.far, n.a, protoTCP, tcp(80, 1000, ack)))
		})
	}
}

// BenchmarkLocalDelivery is the whole way from pod to pod. The repeats are those
// that the hop limit lasts for, because a run keeps what it wrote; the system call
// is therefore a part of the figure (some 10 ns).
func BenchmarkLocalDelivery(b *testing.B) {
	for _, f := range families {
		n := newNode(b)
		n.open(f, n.a, n.b, 1000, 80)
		frame := sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))
		frame[map[int]int{4: 14 + 8, 6: 14 + 7}[f]] = 255
		copy(frame[6:], n.a.mac[:])
		// The MACs that delivery writes must pass as the sender's in the next repeat.
		n.b.row.HostMac = n.a.mac
		n.update(n.b)
		n.from(n.a, frame)
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			fastest(b, n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, 250, 4000, frame)
		})
	}
}

// BenchmarkNewFlow is a first packet: decided, entered, reported, and another
// flow pushed out of the ring. By the kernel's own statistics, whose clock is a
// part of the figure.
func BenchmarkNewFlow(b *testing.B) {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for _, f := range families {
		n := newNode(b)
		n.policy(n.a, entry{peer: n.b.identity, proto: protoTCP, port: 80, bits: 16, action: allow})
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			before, err := n.objs.WeftFromPod.Stats()
			if err != nil {
				b.Fatal(err)
			}
			for i := range uint16(5000) {
				n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1+i, 80, syn)))
			}
			after, err := n.objs.WeftFromPod.Stats()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount), "ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// fastest reports nanoseconds a packet, the least of several rounds.
func fastest(b *testing.B, prog *ebpf.Program, ctx skb, repeat uint32, rounds int, frame []byte) {
	b.Helper()
	best := time.Duration(1 << 62)
	for range rounds {
		start := time.Now()
		if _, err := prog.Run(&ebpf.RunOptions{Data: frame, Context: ctx, Repeat: repeat}); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	b.ReportMetric(float64(best.Nanoseconds())/float64(repeat), "ns/packet")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkMasquerade is one packet of a translated flow at the uplink, out and
// in, with another port than the pod's: the dearer case. A run keeps what it wrote,
// so a second flow translates back what the first did, and so on in turn.
func BenchmarkMasquerade(b *testing.B) {
	for _, f := range families {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			n := newUplink(b, nil)
			pod, node, far := n.a.at(f, 4000), n.self.at(f, 50000), n.far.at(f, 80)
			to := func(e end, flags uint8) weftbpf.BpfWeftNat {
				return weftbpf.BpfWeftNat{Addr: addr16(e.Addr()), Port: wire16(e.Port()), Flags: flags}
			}
			n.put(n.natTable(f), natKey(f, natOut, pod, far, proto), to(node, 0))
			n.put(n.natTable(f), natKey(f, natOut, node, far, proto), to(pod, 0))
			n.put(n.natTable(f), natKey(f, natIn, far, node, proto), to(pod, 1))
			n.put(n.natTable(f), natKey(f, natIn, far, pod, proto), to(node, 1))
			out := n.wire(f, between(f, pod, far, proto, message(f, proto, 4000, 80, false)))
			for _, want := range []end{node, pod} {
				_, next := n.leaves(n.a.ifindex, out)
				if src, _, _ := n.seen(f, next); src != want {
					b.Fatalf("left from %s, want %s", src, want)
				}
				out = next
			}
			name := map[uint8]string{protoTCP: "tcp", protoUDP: "udp"}[proto]
			b.Run(fmt.Sprintf("out/%s/v%d", name, f), func(b *testing.B) {
				fastest(b, n.objs.WeftToNet, skb{Ifindex: n.uplink, IngressIfindex: n.a.ifindex}, 5_000, 400, out)
			})
			b.Run(fmt.Sprintf("in/%s/v%d", name, f), func(b *testing.B) {
				fastest(b, n.objs.WeftFromNet, skb{Ifindex: n.uplink, IngressIfindex: n.uplink}, 5_000, 400,
					n.wire(f, between(f, far, node, proto, message(f, proto, 80, 50000, true))))
			})
		}
	}
}

// BenchmarkUplinkOfTheHost is what the host's own packets pay at an uplink.
func BenchmarkUplinkOfTheHost(b *testing.B) {
	for _, f := range families {
		n := newUplink(b, nil)
		own, far := n.self.at(f, 4000), n.far.at(f, 80)
		for name, frame := range map[string][]byte{
			"tcp": between(f, own, far, protoTCP, tcp(4000, 80, ack)), "udp": between(f, own, far, protoUDP, udp(4000, 80)),
		} {
			b.Run(fmt.Sprintf("out/%s/v%d", name, f), func(b *testing.B) {
				fastest(b, n.objs.WeftToNet, skb{Ifindex: n.uplink}, 5_000, 400, n.wire(f, frame))
			})
		}
		b.Run(fmt.Sprintf("in/tcp/v%d", f), func(b *testing.B) {
			fastest(b, n.objs.WeftFromNet, skb{Ifindex: n.uplink, IngressIfindex: n.uplink}, 5_000, 400,
				n.wire(f, between(f, far, own, protoTCP, tcp(80, 4000, ack))))
		})
	}
}
