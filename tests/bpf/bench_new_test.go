// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/tests/rounds"
)

const (
	// Flows that a round opens. All ports of all rounds differ: no flow is known.
	newFlows = 512
	allPorts = 65_000
	// So many flows are opened, then answered. More would measure how the kernel
	// fetches memory for many unanswered flows at once: answered ones give theirs back.
	openAtOnce = 32
)

// BenchmarkNewFlow is a first packet, decided by policy, entered and reported: to
// someone elsewhere (one policy), to another pod of the node (two), and when an
// older flow makes room and is reported, too. The same without the event, without
// policies, and with tables so small that the CPU's caches hold them, tells where
// the time goes. The answer is what moves a flow among the answered ones.
func BenchmarkNewFlow(b *testing.B) {
	for _, f := range families {
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) {
			full := func(*ebpf.CollectionSpec) {}
			loud, quiet, flooded := newFlowNode(b, true, full), newFlowNode(b, false, full), newFlowNode(b, true, full)
			world, pod, silent := loud.opening(f, loud.far), loud.opening(f, loud.b), quiet.opening(f, quiet.b)
			flood := flooded.opening(f, flooded.far)
			open := benchNode(b, withRing(b, true))
			free := open.opening(f, open.b)
			tight := newFlowNode(b, true, smallTables)
			small := tight.opening(f, tight.b)
			reportAll(b, []rounds.Side{
				{Name: "to_world", Measure: world.first}, {Name: "to_pod", Measure: pod.first},
				{Name: "to_pod_no_event", Measure: silent.first}, {Name: "to_pod_no_policy", Measure: free.first},
				{Name: "to_pod_small_tables", Measure: small.first}, {Name: "to_world_pushing_out", Measure: flood.unanswered},
				{Name: "answer_of_world", Measure: world.second}, {Name: "answer_of_pod", Measure: pod.second},
				floor(world.syn, world.empty),
			})
		})
	}
}

// newFlowNode is a node whose pods a and b have policies, and a ring of default
// size.
func newFlowNode(b *testing.B, events bool, size func(*ebpf.CollectionSpec)) *node {
	b.Helper()
	n := newNodeOn(b, loadSized(b, withRing(b, events), size))
	n.policy(n.a, entry{peer: n.b.identity, proto: protoTCP, port: 80, bits: 16, action: allow},
		entry{peer: uint32(weftbpf.BpfWeftReservedWEFT_ID_WORLD_IPV4), proto: protoTCP, port: 80, bits: 16, action: allow},
		entry{peer: uint32(weftbpf.BpfWeftReservedWEFT_ID_WORLD_IPV6), proto: protoTCP, port: 80, bits: 16, action: allow})
	n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
	return n
}

// withRing configures a ring of default size, and whether there are events.
func withRing(b *testing.B, events bool) func(*weftbpf.BpfWeftConfig) {
	b.Helper()
	spec := inside(b, "weft_pend")
	return func(c *weftbpf.BpfWeftConfig) {
		c.PendMax = spec.MaxEntries
		if !events {
			c.FlowEvents = 0
		}
	}
}

// opening is pod a's first packets to someone, from one port after the other, and
// the answers to them.
type opening struct {
	n           *node
	syn, answer *repeated
	empty       *ebpf.Program
}

func (n *node) opening(f int, to *host) *opening {
	n.Helper()
	o := &opening{n: n, empty: n.empty(ebpf.AttachTCXIngress)}
	sport, dport := transportAt(f), transportAt(f)+2
	o.syn = n.rotate("first", n.objs.WeftFromPod, ebpf.AttachTCXIngress, skb{Ifindex: n.a.ifindex},
		sent(f, n.a, to, protoTCP, tcp(1, 80, syn)), sport, allPorts)
	if to.slot != 0 {
		o.answer = n.rotate("answer", n.objs.WeftFromPod, ebpf.AttachTCXIngress, skb{Ifindex: to.ifindex},
			sent(f, to, n.a, protoTCP, tcp(80, 1, syn|ack)), dport, allPorts)
	} else {
		o.answer = n.rotate("answer", n.objs.WeftToPod, ebpf.AttachTCXEgress, skb{Ifindex: n.a.ifindex, IngressIfindex: n.uplink},
			got(f, to, n.a, protoTCP, tcp(80, 1, syn|ack)), dport, allPorts)
	}
	v, _ := o.syn.once(n)
	w, _ := o.answer.once(n)
	if _, answered := n.flow(f, n.a, to, 1, 80, protoTCP); v == actShot || w == actShot || !answered {
		n.Fatalf("verdicts %d and %d, answered %t", v, w, answered)
	}
	return o
}

// first and second give what a first packet and its answer cost.
func (o *opening) first(tb testing.TB) float64  { return o.round(tb, o.syn) }
func (o *opening) second(tb testing.TB) float64 { return o.round(tb, o.answer) }

func (o *opening) round(tb testing.TB, of *repeated) float64 {
	tb.Helper()
	o.n.drain()
	sum := 0.0
	for range newFlows / openAtOnce {
		for _, r := range []*repeated{o.syn, o.answer} {
			hollow, full := r.timed(tb, r.hollow, openAtOnce), r.timed(tb, r.front, openAtOnce)
			if r == of {
				sum += full - hollow
			}
		}
	}
	return sum/(newFlows/openAtOnce) + of.timed(tb, o.empty, hotRepeats)
}

// unanswered gives what a first packet costs when nobody answers: once the ring is
// full, each pushes out another flow.
func (o *opening) unanswered(tb testing.TB) float64 {
	tb.Helper()
	o.n.drain()
	return o.syn.timed(tb, o.syn.front, newFlows) - o.syn.timed(tb, o.syn.hollow, newFlows) + o.syn.timed(tb, o.empty, hotRepeats)
}
