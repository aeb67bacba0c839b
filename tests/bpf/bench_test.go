// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
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
