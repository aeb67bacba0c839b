// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	stale   = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_STALE)
	closing = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_CLOSING)
)

func TestFlowIsAnsweredByItsFirstReply(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoUDP, udp(1000, 53))) })
		ct, answered := n.flow(f, n.a, n.far, 1000, 53, protoUDP)
		if ct == nil || answered {
			t.Fatalf("IPv%d: after the first packet: %+v, answered %v", f, ct, answered)
		}
		in := got(f, n.far, n.a, protoUDP, udp(53, 1000, 1, 2, 3))
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, in) })
		ct, answered = n.flow(f, n.a, n.far, 1000, 53, protoUDP)
		if ct == nil || !answered {
			t.Fatalf("IPv%d: after the reply: %+v, answered %v", f, ct, answered)
		}
		_, b := key(f, n.a, n.far, 1000, 53, protoUDP)
		if (ct.Flags&uint8(weftbpf.BpfWeftCtFlagWEFT_CT_FROM_B) != 0) != b {
			t.Errorf("IPv%d: initiator on the wrong side", f)
		}
		if ct.Packets != [2]uint64{1, 1} || ct.Bytes[1] != uint64(len(in)) ||
			ct.Slot != [2]uint16{n.a.slot, 0} || ct.Identity[0] != n.a.identity {
			t.Errorf("IPv%d: %+v", f, ct)
		}
		if _, un := n.tables(f); n.count(un) != 0 {
			t.Errorf("IPv%d: still in the table of unanswered flows", f)
		}
	}
}

func TestResetDoesNotAnswer(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn))) })
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, rst|ack))) })
		ct, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if ct == nil || answered || ct.Flags&closing == 0 {
			t.Errorf("IPv%d: %+v, answered %v", f, ct, answered)
		}
	}
}

func TestTCPCloses(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		state := func() uint8 { ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP); return ct.Flags & closing }
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, fin|ack)))
		if state() != 0 {
			t.Errorf("IPv%d: closing after one FIN", f)
		}
		n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, fin|ack)))
		if state() == 0 {
			t.Errorf("IPv%d: not closing after both FINs", f)
		}
		n.open(f, n.a, n.b, 1001, 80)
		n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1001, rst)))
		if ct, _ := n.flow(f, n.a, n.b, 1001, 80, protoTCP); ct.Flags&closing == 0 {
			t.Errorf("IPv%d: not closing after RST", f)
		}
	}
}

func TestEpochOfEitherEndDecidesAgain(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		up := func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) }
		down := func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, ack))) }
		// A change that still allows it: the flow goes on, counters and all.
		n.open(f, n.a, n.b, 1000, 80)
		n.policy(n.a, entry{peer: n.b.identity, proto: protoTCP, port: 80, bits: 16, action: allow, rule: 4})
		n.passes(actRedirect, down)
		n.passes(actRedirect, up)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow, rule: 6})
		n.passes(actRedirect, up)
		n.passes(actRedirect, down)
		ct, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if !answered || ct.Packets != [2]uint64{4, 3} || ct.Rule != [2]uint32{4, 6} ||
			ct.Epoch != [2]uint32{n.a.row.Epoch, n.b.row.Epoch} {
			t.Errorf("IPv%d: answered %v, %+v", f, answered, ct)
		}
		// Refused at the receiver, noticed by the sender's packet.
		n.policy(n.b)
		n.dropped(policyDefault, ingress, up)
		// Refused at the initiator, noticed by the reply, in the initiator's direction.
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.open(f, n.a, n.b, 1000, 80)
		n.policy(n.a)
		n.dropped(policyDefault, egress, down)
	}
}

// What answers a refused flow must not open it again from the other side: its
// sender is no initiator, whatever its own policy lets it open.
func TestAnswersDoNotReopenRefusedFlow(t *testing.T) {
	for _, f := range families {
		for _, answered := range []bool{true, false} {
			n := newNode(t)
			up := func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) }
			down := func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, ack))) }
			if answered {
				n.open(f, n.a, n.b, 1000, 80)
			} else {
				n.passes(actRedirect, up)
			}
			n.drain()
			outward := entry{action: allow, rule: 5}
			n.policy(n.b, outward)
			n.dropped(policyDefault, ingress, up)
			if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_END) {
				t.Errorf("IPv%d: event %d, want the flow's end", f, e.Type)
			}
			n.dropped(policyDefault, ingress, down)
			n.dropped(policyDefault, ingress, up)
			n.dropped(policyDefault, ingress, down)

			// Allowed again, it goes on as the flow it was, with counters from here on.
			n.policy(n.b, outward, entry{dir: ingress, action: allow, peer: n.a.identity, rule: 7})
			n.drain()
			n.passes(actRedirect, down)
			n.passes(actRedirect, up)
			ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
			if ct == nil || ct.Packets != [2]uint64{1, 1} || ct.Rule != [2]uint32{0, 7} ||
				ct.Slot != [2]uint16{n.a.slot, n.b.slot} {
				t.Errorf("IPv%d: %+v", f, ct)
			}
			if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_NEW) {
				t.Errorf("IPv%d: event %d, want a new flow", f, e.Type)
			}
			n.silent()
		}
	}
}

func TestPeersIdentity(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
		n.open(f, n.a, n.b, 1000, 80)
		up := func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) }
		// A local peer is relabelled: its row says so.
		n.a.row.Identity = 5555
		n.update(n.a)
		n.dropped(policyDefault, ingress, up)
		n.a.row.Identity = n.a.identity
		n.update(n.a)

		// An address elsewhere passes to another: its flows are swept.
		n.policy(n.a, entry{peer: 2000, action: allow})
		n.address(n.far, 2000)
		out := func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoUDP, udp(1000, 53))) }
		in := func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, protoUDP, udp(53, 1000))) }
		n.passes(actOK, out)
		n.passes(actOK, in)
		n.passes(actOK, out)
		n.address(n.far, 2001)
		n.passes(actOK, out) // nobody told yet
		if m := n.sweep(n.far.ip[f].String() + map[int]string{4: "/32", 6: "/128"}[f]); m != 1 {
			t.Errorf("IPv%d: %d flows marked, want 1", f, m)
		}
		if ct, _ := n.flow(f, n.a, n.far, 1000, 53, protoUDP); ct.Flags&stale == 0 {
			t.Errorf("IPv%d: not stale: %+v", f, ct)
		}
		n.dropped(policyDefault, egress, in)
		// Swept, but the new one is allowed as well: the mark goes, the flow stays.
		n.address(n.far, 2000)
		n.passes(actOK, out)
		n.passes(actOK, in)
		n.sweep("8.0.0.0/8", "2001:db8::/32")
		n.passes(actOK, in)
		if ct, answered := n.flow(f, n.a, n.far, 1000, 53, protoUDP); !answered || ct.Flags&stale != 0 {
			t.Errorf("IPv%d: answered %v, %+v", f, answered, ct)
		}
	}
}

func TestFreshSYN(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		again := func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn))) }
		n.passes(actRedirect, again)
		ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if ct.Packets != [2]uint64{1, 0} {
			t.Errorf("IPv%d: a new connection with old counters %v", f, ct.Packets)
		}
		// From the other end: a new initiator, if its policy lets it.
		back := func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, syn))) }
		n.open(f, n.a, n.b, 1000, 80)
		n.passes(actRedirect, back)
		ct, _ = n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if ct.Slot != [2]uint16{n.b.slot, n.a.slot} {
			t.Errorf("IPv%d: initiator is not the sender of the SYN: %+v", f, ct)
		}
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.open(f, n.a, n.b, 1001, 80)
		n.dropped(policyDefault, egress, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1001, syn))) })
		if _, answered := n.flow(f, n.a, n.b, 1001, 80, protoTCP); !answered {
			t.Errorf("IPv%d: a refused SYN ended the flow it went against", f)
		}
		// A retransmission is none.
		syn1 := func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1002, 80, syn))) }
		n.passes(actRedirect, syn1)
		n.passes(actRedirect, syn1)
		if ct, _ := n.flow(f, n.a, n.b, 1002, 80, protoTCP); ct.Packets[0] != 2 {
			t.Errorf("IPv%d: a retransmitted SYN began a new flow", f)
		}
	}
}

func TestMidStream(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.policy(n.b, entry{dir: ingress, action: allow})
		n.verdict(f, n.a, n.b, protoTCP, tcp(1000, 80, ack), 0, ingress)
		n.verdict(f, n.b, n.a, protoTCP, tcp(81, 1000, ack), policyDefault, egress)
	}
}

func TestUnansweredFlowsAreBounded(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.open(f, n.a, n.b, 1000, 80)
		for port := range uint16(3 * ring) {
			n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoUDP, udp(2000+port, 53))) })
		}
		_, un := n.tables(f)
		// The answered flow's place in the ring was free to take.
		if c := n.count(un); c != ring {
			t.Errorf("IPv%d: %d unanswered flows, want %d", f, c, ring)
		}
		var stat weftbpf.BpfWeftEpstatRow
		if err := n.objs.WeftEpstat.Lookup(uint32(n.a.slot), &stat); err != nil {
			t.Fatal(err)
		}
		if stat.PendEvicted != 2*ring || stat.PendHead != 3*ring+1 {
			t.Errorf("IPv%d: %+v", f, stat)
		}
		if _, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP); !answered {
			t.Errorf("IPv%d: an answered flow was pushed out", f)
		}
		// Flows from outside are their receiver's.
		n.passes(actOK, func() uint32 { return n.to(n.c, n.uplink, got(f, n.far, n.c, protoUDP, udp(1, 2))) })
		if err := n.objs.WeftEpstat.Lookup(uint32(n.c.slot), &stat); err != nil || stat.PendHead != 1 {
			t.Errorf("IPv%d: receiver's ring: %+v, %v", f, stat, err)
		}
	}
}

func TestNoRoomForAFlow(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		if err := n.objs.WeftPend.Delete(uint32(n.a.slot)); err != nil {
			t.Fatal(err)
		}
		n.dropped(ctFull, egress, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1, 2))) })
	}
	// A full table.
	n := newNode(t)
	for i := range uint32(5000) {
		k := weftbpf.BpfWeftCt4Key{Addr: [2]uint32{i, i}}
		if err := n.objs.WeftCtn4.Update(k, &weftbpf.BpfWeftCt{}, ebpf.UpdateAny); err != nil {
			break
		}
	}
	n.dropped(ctFull, egress, func() uint32 { return n.from(n.a, sent(4, n.a, n.b, protoUDP, udp(1, 2))) })
}
