// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// Calls that a policy refuses are in no conntrack, so no ring bounds them: their
// keys must not stay, or one pod fills the table of all.
func TestRefusedCallsHoldNoTranslation(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNode(t)
		n.service(f, proto, n.b)
		n.policy(n.b)
		call := func(port uint16) func() uint32 {
			return func() uint32 {
				v, _, _, _ := n.sends(n.a, f, n.a.at(f, port), vip.at(f, 80), proto, message(f, proto, port, 80, false))
				return v
			}
		}
		n.dropped(policyDefault, ingress, call(9000))
		if e := n.event(); e.Service == 0 || e.Backend == 0 {
			t.Errorf("a refused call names service %d, backend %d", e.Service, e.Backend)
		}
		for port := range uint16(3 * natEntries) {
			n.dropped(policyDefault, ingress, call(2000+port))
		}
		n.keys("after a flood that policy refused", f, 0)
		// A flow that was let pass keeps its backend while policy refuses it.
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.passes(actRedirect, call(4000))
		n.policy(n.b)
		n.dropped(policyDefault, ingress, call(4000))
		n.keys("of a flow that is known", f, 2)
	})
}

// A connection that a used port opens again is a new one: it does not go to a
// backend that takes none. What is open stays.
func TestUsedPortLeavesADrainingBackend(t *testing.T) {
	for _, f := range families {
		for name, state := range map[string]weftbpf.BpfWeftBackendState{
			"draining": weftbpf.BpfWeftBackendStateWEFT_BACKEND_DRAINING,
			"unready":  weftbpf.BpfWeftBackendStateWEFT_BACKEND_UNREADY,
		} {
			n := newNode(t)
			n.service(f, protoTCP, n.b)
			pod, front := n.a.at(f, 4000), vip.at(f, 80)
			n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, syn))
			n.sends(n.b, f, n.b.at(f, 8080), pod, protoTCP, tcp(8080, 4000, syn|ack))
			number := uint32(10*f) + uint32(protoTCP)
			for id, row := range map[uint32]weftbpf.BpfWeftBackendRow{
				number * 100: {Addr: addr16(n.b.ip[f]), State: uint8(state)}, 7: {Addr: addr16(n.c.ip[f]), State: 1},
			} {
				row.Port, row.Family, row.Proto = wire16(8080), uint8(f), protoTCP
				n.put(n.objs.WeftBackend, id, row)
			}
			n.put(n.objs.WeftSvcSlot, weftbpf.BpfWeftSlotKey{Service: number}, uint32(7))
			if _, _, to, _ := n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, ack)); to != n.b.at(f, 8080) {
				t.Errorf("IPv%d, %s: an open connection goes to %s", f, name, to)
			}
			n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, ack|fin))
			n.sends(n.b, f, n.b.at(f, 8080), pod, protoTCP, tcp(8080, 4000, ack|fin))
			if _, _, to, _ := n.sends(n.a, f, pod, front, protoTCP, tcp(4000, 80, syn)); to != n.c.at(f, 8080) {
				t.Errorf("IPv%d, %s: the port's next connection goes to %s", f, name, to)
			}
			n.keys("of the new connection alone", f, 2)
		}
	}
}

// Datagrams of more than one packet reach a pod that is its own backend, both ways.
func TestFragmentsToThePodItself(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.service(f, protoUDP, n.a)
		body := make([]byte, 64)
		for i, way := range []struct{ src, dst, from, to end }{
			{n.a.at(f, 4000), vip.at(f, 80), vip.at(f, 4000), n.a.at(f, 8080)},
			{n.a.at(f, 8080), vip.at(f, 4000), vip.at(f, 80), n.a.at(f, 4000)},
		} {
			for _, first := range []bool{true, false} {
				l4 := body
				if first {
					l4 = udp(way.src.Port(), way.dst.Port(), body...)
				}
				v, out, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, n.fragment(f, n.a, way.src, way.dst, uint32(i+1), first, l4))
				if src, dst, _ := addressesOf(f, out); v != actRedirect || src != way.from.Addr() || dst != way.to.Addr() {
					t.Errorf("IPv%d, from %s, first %t: verdict %d, from %s to %s", f, way.src, first, v, src, dst)
				}
			}
		}
	}
}

// A pod that calls itself from every port holds no more than its share, and gets
// room again when those flows are over.
func TestCallsToThePodItselfAreBounded(t *testing.T) {
	eachService(t, func(t *testing.T, f int, proto uint8) {
		n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { short(c); c.Hz = testHz; c.PendMax = 2 })
		n.service(f, proto, n.a)
		call := func(port uint16) func() uint32 {
			return func() uint32 {
				v, _, _, _ := n.sends(n.a, f, n.a.at(f, port), vip.at(f, 80), proto, message(f, proto, port, 80, false))
				return v
			}
		}
		const most = 17 // the share, and one that the count is too low
		for port := range uint16(most) {
			n.passes(actRedirect, call(4000+port))
		}
		for range 2 { // also after they were counted anew
			n.dropped(natFull, egress, call(5000))
			n.keys("of the pod's flows", f, 2*most)
			n.natGC()
		}
		for port := range uint16(most) {
			n.ages(f, natFwd, n.a.at(f, 4000+port), vip.at(f, 80), proto, 5000)
			n.ages(f, natBack, n.a.at(f, 8080), n.a.at(f, 4000+port), proto, 5000)
		}
		n.natGC()
		n.passes(actRedirect, call(5000))
		n.keys("afterwards", f, 2)
		v, from, _, _ := n.sends(n.a, f, n.a.at(f, 8080), vip.at(f, 5000), proto, message(f, proto, 8080, 5000, true))
		if v != actRedirect || from != vip.at(f, 80) {
			t.Errorf("an answer has verdict %d and comes from %s", v, from)
		}
	})
}
