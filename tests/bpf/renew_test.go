// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// A port that connects again where it was before has a flow of its own: what is told of
// the old one is that one's, and the new one's counters are its own.
func TestAPortThatConnectsAgainBeginsAnew(t *testing.T) {
	for _, f := range families {
		for name, change := range map[string]func(n *node){
			"as before":                func(*node) {},
			"under another policy":     func(n *node) { n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow, rule: 9}) },
			"after its flow was swept": func(n *node) { n.sweep(n.a.ip[f].String() + map[int]string{4: "/32", 6: "/128"}[f]) },
		} {
			n := newNode(t)
			n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow, rule: 8})
			n.open(f, n.a, n.b, 1000, 80)
			n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, rst|ack))) })
			n.drain()
			change(n)
			n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn))) })
			if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_END) || e.Packets != [2]uint64{3, 1} || e.Rule[ingress] != 8 {
				t.Errorf("IPv%d, %s: the end is %+v", f, name, e)
			}
			rule := map[bool]uint32{false: 8, true: 9}[name == "under another policy"]
			if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_NEW) || e.Packets != [2]uint64{1, 0} || e.Rule[ingress] != rule {
				t.Errorf("IPv%d, %s: the beginning is %+v", f, name, e)
			}
			ct, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
			_, fromB := key(f, n.a, n.b, 1000, 80, protoTCP)
			flags := map[bool]uint8{true: uint8(weftbpf.BpfWeftCtFlagWEFT_CT_FROM_B)}[fromB]
			if ct == nil || !answered || ct.Flags != flags || ct.Tcp != [2]uint8{syn, 0} || ct.Packets != [2]uint64{1, 0} || ct.Rule[ingress] != rule {
				t.Errorf("IPv%d, %s: the flow is %+v", f, name, ct)
			}
			n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, syn|ack))) })
			n.silent()
		}
	}
}

// From the other side it is another flow, with an entry of its own.
func TestAPortThatIsConnectedToFromTheOtherSideIsAnotherFlow(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, rst))) })
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, syn))) })
		ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if ct == nil || ct.Identity != [2]uint32{n.b.identity, n.a.identity} || ct.Packets != [2]uint64{1, 0} {
			t.Errorf("IPv%d: the flow is %+v", f, ct)
		}
	}
}
