// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// sweep marks the flows of addresses in the prefixes, and tells how many.
func (n *node) sweep(prefixes ...string) uint32 {
	n.Helper()
	var arg weftbpf.BpfWeftSweep
	for i, s := range prefixes {
		p := netip.MustParsePrefix(s)
		copy(arg.Prefix[i].Addr[:], p.Addr().AsSlice())
		arg.Prefix[i].Family, arg.Prefix[i].Bits = 4, uint8(p.Bits())
		if p.Addr().Is6() {
			arg.Prefix[i].Family = 6
		}
	}
	arg.Count = uint32(len(prefixes))
	n.syscall(n.objs.WeftCtSweep, unsafe.Slice((*byte)(unsafe.Pointer(&arg)), unsafe.Sizeof(arg)))
	return arg.Matched
}

func (n *node) gc() weftbpf.BpfWeftGc {
	n.Helper()
	var arg weftbpf.BpfWeftGc
	for part := range weftbpf.BpfWeftGcPartWEFT_GC_PARTS {
		arg.Part = uint32(part)
		n.syscall(n.objs.WeftCtGc, unsafe.Slice((*byte)(unsafe.Pointer(&arg)), unsafe.Sizeof(arg)))
	}
	return arg
}

// syscall runs a program with an argument that it may change.
func (n *node) syscall(prog *ebpf.Program, arg []byte) {
	n.Helper()
	code, err := prog.Run(&ebpf.RunOptions{Context: arg, ContextOut: arg})
	if err != nil || code != 0 {
		n.Fatalf("running %s: code %d, %v", prog, code, err)
	}
}

// short are timeouts that a test tells apart by rewriting when a flow was seen.
func short(cfg *weftbpf.BpfWeftConfig) {
	cfg.TcpTimeout, cfg.AnyTimeout, cfg.NewTimeout, cfg.CloseTimeout, cfg.AliveEvery = 1000, 100, 50, 10, 1e6
}

func TestSweepMatchesPrefixes(t *testing.T) {
	n := newNode(t)
	for _, f := range families {
		n.open(f, n.a, n.b, 1000, 80)
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.c, protoUDP, udp(1, 2))) })
		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoUDP, udp(1, 2))) })
	}
	for _, tc := range []struct {
		prefixes []string
		want     uint32
	}{
		{nil, 0},
		{[]string{"10.0.0.1/32"}, 3},
		{[]string{"10.0.0.2/32"}, 1},
		{[]string{"10.0.0.2/31"}, 2},
		{[]string{"8.0.0.0/8"}, 1},
		{[]string{"9.0.0.0/8"}, 0},
		{[]string{"0.0.0.0/0"}, 3},
		{[]string{"fd00::2/128"}, 1},
		{[]string{"fd00::2/127"}, 2},
		{[]string{"2001:db8::/33"}, 1},
		{[]string{"2001:db8:8000::/33"}, 0},
		{[]string{"::/0"}, 3},
		{[]string{"10.0.0.3/32", "10.0.0.2/32", "fd00::3/128"}, 3},
	} {
		if got := n.sweep(tc.prefixes...); got != tc.want {
			t.Errorf("%v: %d flows, want %d", tc.prefixes, got, tc.want)
		}
	}
	many := make([]string, 64)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{99, 0, 0, byte(i)}), 32).String()
	}
	many[63] = "10.0.0.2/32"
	if got := n.sweep(many...); got != 1 {
		t.Errorf("the last of 64 prefixes matches %d flows, want 1", got)
	}
}

func TestTimeouts(t *testing.T) {
	const hz = 250
	for _, f := range families {
		n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { short(c); c.Hz = hz })
		// Each flow by the port of its initiator, and after how many seconds it ends.
		n.open(f, n.a, n.b, 1000, 80)
		n.open(f, n.a, n.b, 10, 80)
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(10, 80, rst)))
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(50, 80, syn)))
		for port, after := range map[uint16]uint32{1000: 1000, 10: 10, 50: 50} {
			n.drain()
			age := func(s uint32) {
				n.change(f, n.a, n.b, port, 80, protoTCP, func(ct *weftbpf.BpfWeftCt) { ct.Seen -= s * hz })
			}
			age(after - 2)
			if g := n.gc(); g.Expired != 0 {
				t.Errorf("IPv%d: %d flows ended too early", f, g.Expired)
			}
			ct, _ := n.flow(f, n.a, n.b, port, 80, protoTCP)
			age(4)
			if g := n.gc(); g.Expired != 1 {
				t.Errorf("IPv%d: port %d: %d flows ended, want 1", f, port, g.Expired)
			}
			if ct, _ := n.flow(f, n.a, n.b, port, 80, protoTCP); ct != nil {
				t.Errorf("IPv%d: port %d is still there", f, port)
			}
			e := n.event()
			if e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_END) || e.Packets != ct.Packets || e.Bytes != ct.Bytes ||
				e.Port[0] != wire16(port) || e.Slot != [2]uint16{n.a.slot, n.b.slot} || int(e.Family) != f {
				t.Errorf("IPv%d: event %+v of %+v", f, e, ct)
			}
		}
		n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(1, 2)))
		if g := n.gc(); g.Live != 0 || g.Pending != 1 {
			t.Errorf("IPv%d: %+v", f, g)
		}
	}
}

func TestAliveEvents(t *testing.T) {
	n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { c.AliveEvery = 60; c.Hz = 250 })
	for _, f := range families {
		n.open(f, n.a, n.b, 1000, 80)
		n.drain()
		n.gc()
		n.silent()
		n.change(f, n.a, n.b, 1000, 80, protoTCP, func(ct *weftbpf.BpfWeftCt) { ct.Reported -= 61 * 250; ct.Created -= 61 * 250 })
		n.gc()
		e := n.event()
		if e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_ALIVE) || e.Packets != [2]uint64{2, 1} || e.Age < 61000 || e.Age > 90000 {
			t.Errorf("IPv%d: %+v", f, e)
		}
		n.gc()
		n.silent()
	}
}

func TestDropsAreCountedAndSampled(t *testing.T) {
	n := newNodeWith(t, func(c *weftbpf.BpfWeftConfig) { c.Hz = 250 })
	n.policy(n.a, entry{peer: n.b.identity, action: deny, rule: 77})
	for _, f := range families {
		flood := sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn))
		start := time.Now()
		for range 50 {
			n.dropped(policyDeny, egress, func() uint32 { return n.from(n.a, flood) })
		}
		took := time.Since(start)
		e := n.event()
		if e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_DROP) || e.Reason != uint8(policyDeny) || e.Rule != [2]uint32{77, 0} ||
			e.Identity != [2]uint32{n.a.identity, n.b.identity} || e.Slot != [2]uint16{n.a.slot, n.b.slot} ||
			e.Count != 1 || e.Dir != egress || int(e.Family) != f || e.Port != [2]uint16{wire16(1000), wire16(80)} ||
			e.TcpFlags != syn || e.Ifindex != n.a.ifindex {
			t.Errorf("IPv%d: first event %+v", f, e)
		}
		total, events := uint32(1), 1
		deadline := time.Now().Add(10 * time.Second)
		for total < 50 && time.Now().Before(deadline) {
			n.gc() // reports the tail once 100 ms have passed
			for n.events.AvailableBytes() > 0 {
				total, events = total+n.event().Count, events+1
			}
		}
		if most := 3 + int(took/(100*time.Millisecond)); total != 50 || events > most {
			t.Errorf("IPv%d: %d events for %d packets, want at most %d for 50", f, events, total, most)
		}
	}
}

func TestNewAndAuditEvents(t *testing.T) {
	n := newNode(t)
	n.policy(n.a, entry{peer: n.b.identity, action: allow, rule: 11}, entry{peer: n.c.identity, action: audit, rule: 12})
	n.policy(n.b, entry{dir: ingress, action: allow, rule: 13})
	for _, f := range families {
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(1000, 80, syn)))
		e := n.event()
		if e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_NEW) || e.Rule != [2]uint32{11, 13} || e.Dir != egress ||
			e.Identity != [2]uint32{n.a.identity, n.b.identity} || e.Port != [2]uint16{wire16(1000), wire16(80)} {
			t.Errorf("IPv%d: %+v", f, e)
		}
		want := n.a.ip[f].AsSlice()
		if string(e.Addr[0][:len(want)]) != string(want) {
			t.Errorf("IPv%d: initiator %v", f, e.Addr[0])
		}
		n.from(n.a, sent(f, n.a, n.c, protoTCP, tcp(1000, 80, syn)))
		if e := n.event(); e.Type != uint8(weftbpf.BpfWeftFlowTypeWEFT_FLOW_AUDIT) || e.Rule[0] != 12 {
			t.Errorf("IPv%d: %+v", f, e)
		}
		n.to(n.b, n.uplink, got(f, n.far, n.b, protoUDP, udp(7, 8)))
		if e := n.event(); e.Dir != ingress || e.Slot != [2]uint16{0, n.b.slot} {
			t.Errorf("IPv%d: %+v", f, e)
		}
		n.silent()
	}
}
