// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// Of a flow with the world only one end has an epoch: that of the packet's own
// endpoint, at either hook.
func TestEpochOfTheOnlyLocalEndDecidesAgain(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		world := uint32(2 + f/2 - 1)
		up := func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoTCP, tcp(1000, 80, ack))) }
		down := func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, protoTCP, tcp(80, 1000, ack))) }
		n.policy(n.a, entry{peer: world, action: allow, rule: 1})
		n.passes(actOK, up)
		n.passes(actOK, down)
		n.passes(actOK, up)
		n.policy(n.a, entry{peer: world, action: allow, rule: 2})
		n.passes(actOK, down)
		if ct, _ := n.flow(f, n.a, n.far, 1000, 80, protoTCP); ct.Rule[egress] != 2 {
			t.Errorf("IPv%d: still by rule %d", f, ct.Rule[egress])
		}
		n.policy(n.a)
		n.dropped(policyDefault, egress, up)
		n.dropped(policyDefault, egress, down)
	}
}

// A packet that would open another flow against the direction of a known one, and
// is refused, may come from anyone: the known one goes on as if it had not been.
func TestARefusedPacketAgainstAFlowLeavesItAlone(t *testing.T) {
	const refused = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_REFUSED | weftbpf.BpfWeftCtFlagWEFT_CT_STALE)
	for _, f := range families {
		proto, request, _ := echo(f)
		for name, opens := range map[string][2][]byte{
			"SYN":  {tcp(1000, 80, ack), tcp(80, 1000, syn)},
			"ICMP": {icmp(request, 0, 9), icmp(request, 0, 9)},
		} {
			n := newNode(t)
			n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
			p, sport, dport := proto, uint16(9), uint16(9)
			if name == "SYN" {
				p, sport, dport = protoTCP, 1000, 80
				n.open(f, n.a, n.b, sport, dport)
			}
			n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, p, opens[0])) })
			before, _ := n.flow(f, n.a, n.b, sport, dport, p)
			n.drain()
			n.dropped(policyDefault, egress, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, p, opens[1])) })
			after, _ := n.flow(f, n.a, n.b, sport, dport, p)
			if after == nil || after.Flags&refused != 0 || after.Packets != before.Packets {
				t.Errorf("IPv%d, %s: the flow is now %+v", f, name, after)
			}
			if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_DROP) {
				t.Errorf("IPv%d, %s: event %+v", f, name, e)
			}
			n.silent()
		}
	}
}

// A reset is no answer either where the flow has to be decided again.
func TestResetDoesNotAnswerWhatIsDecidedAgain(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn))) })
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, rst|ack))) })
		if ct, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP); ct == nil || answered {
			t.Errorf("IPv%d: %+v, answered %v", f, ct, answered)
		}
	}
}
