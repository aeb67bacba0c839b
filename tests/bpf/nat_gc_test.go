// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// longAgo is more jiffies than any timeout of a test lasts.
const longAgo = 3_000_000

// age lets a translated flow's keys be made and seen long ago.
func (n *node) age(f int, kind weftbpf.BpfWeftNatKind, src, dst end, proto uint8, jiffies uint32) {
	n.Helper()
	v := n.nat(f, kind, src, dst, proto)
	if v == nil {
		n.Fatalf("no translation from %s to %s", src, dst)
	}
	v.Seen -= jiffies
	v.Created -= jiffies
	n.put(n.natTable(f), natKey(f, kind, src, dst, proto), v)
}

// keys asserts how many keys there are.
func (n *node) keys(when string, f, want int) {
	n.Helper()
	if k := n.count(n.natTable(f)); k != want {
		n.Errorf("IPv%d, %s: %d keys, want %d", f, when, k, want)
	}
}

// A translation lives as long as conntrack knows the flow, and ends with it.
func TestTranslationEndsWithItsFlow(t *testing.T) {
	for _, f := range families {
		for _, proto := range protocols(f) {
			n := newUplink(t, short)
			dport := uint16(80)
			if proto == protoICMP || proto == protoICMPv6 {
				dport = 4000
			}
			at := n.translated(f, n.a, proto, 4000, dport)
			n.age(f, natOut, n.a.at(f, 4000), n.far.at(f, dport), proto, longAgo)
			n.age(f, natIn, n.far.at(f, dport), at, proto, longAgo)
			if s := n.natGC(); s.Live != 1 || s.Expired != 0 {
				t.Errorf("IPv%d, protocol %d: a flow that conntrack knows: %+v", f, proto, s)
			}
			n.change(f, n.a, n.far, 4000, dport, proto, func(ct *weftbpf.BpfWeftCt) { ct.Seen -= longAgo })
			n.gc()
			n.keys("after the flow's end", f, 0)
		}
	}
}

// A flood of questions that nobody answers holds no more translations than the
// pod may have unanswered flows.
func TestUnansweredTranslationsAreBounded(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		for port := range uint16(3 * natEntries) {
			n.translated(f, n.a, protoUDP, 2000+port, 80)
		}
		n.keys("after a flood", f, 2*ring)
	}
}

// An entry that the table of answered flows dropped takes its translation with it,
// unless packets go on.
func TestTranslationWithoutFlow(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, short)
		at := n.translated(f, n.a, protoUDP, 4000, 80)
		k, _ := key(f, n.a, n.far, 4000, 80, protoUDP)
		_, unanswered := n.tables(f)
		if err := unanswered.Delete(k); err != nil {
			t.Fatal(err)
		}
		n.age(f, natOut, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, longAgo)
		if s := n.natGC(); s.Live != 1 {
			t.Errorf("IPv%d: answers go on: %+v", f, s)
		}
		n.age(f, natIn, n.far.at(f, 80), at, protoUDP, longAgo)
		if s := n.natGC(); s.Live != 0 || s.Expired != 1 {
			t.Errorf("IPv%d: nothing goes on: %+v", f, s)
		}
		n.keys("at the end", f, 0)
	}
}

// Flows of the host's own are in no conntrack and end by their silence.
func TestHostsTranslationEnds(t *testing.T) {
	for _, f := range families {
		for proto, lasts := range map[uint8]uint32{protoTCP: 1000, protoUDP: 100} {
			n := newUplink(t, short)
			n.translated(f, n.a, proto, 4000, 80)
			_, out := n.leaves(0, n.wire(f, between(f, n.self.at(f, 4000), n.far.at(f, 80), proto, message(f, proto, 4000, 80, false))))
			at, _, _ := n.seen(f, out)
			second := uint32(250) // jiffies, as the programs of tests take it
			for _, tc := range []struct{ back, left uint32 }{{(lasts - 20) * second, 4}, {40 * second, 2}} {
				n.age(f, natOut, n.self.at(f, 4000), n.far.at(f, 80), proto, tc.back)
				n.age(f, natIn, n.far.at(f, 80), at, proto, tc.back)
				n.natGC()
				n.keys("after its time", f, int(tc.left))
			}
		}
	}
}

// Half of a flow, as a move of the tables could leave it, goes.
func TestHalfOfATranslation(t *testing.T) {
	for _, f := range families {
		for _, kind := range []weftbpf.BpfWeftNatKind{natOut, natIn} {
			n := newUplink(t, short)
			at := n.translated(f, n.a, protoUDP, 4000, 80)
			keys := map[weftbpf.BpfWeftNatKind][2]end{
				natOut: {n.a.at(f, 4000), n.far.at(f, 80)}, natIn: {n.far.at(f, 80), at},
			}
			if err := n.natTable(f).Delete(natKey(f, kind, keys[kind][0], keys[kind][1], protoUDP)); err != nil {
				t.Fatal(err)
			}
			n.natGC()
			n.keys("at once", f, 1)
			n.age(f, kind^1, keys[kind^1][0], keys[kind^1][1], protoUDP, longAgo)
			n.natGC()
			n.keys("later", f, 0)
		}
	}
}

// Flows that left with an address that the host has no more are over, even while
// packets go on; a moment is left to the agent to tell of a new address.
func TestAddressOfTheHostGoes(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, short)
		n.translated(f, n.a, protoUDP, 4000, 80)
		if err := n.objs.WeftHome.Delete(weftbpf.BpfWeftHomeKey{Addr: addr16(n.self.ip[f])}); err != nil {
			t.Fatal(err)
		}
		n.natGC()
		n.keys("at first", f, 2)
		n.age(f, natOut, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, longAgo)
		n.natGC()
		n.keys("later", f, 0)
		next := &host{ip: addrs("192.168.7.2", "fd07::2")}
		n.home(next)
		n.put(n.objs.WeftUplink, n.uplink, weftbpf.BpfWeftUplinkRow{Ip4: wire32(next.ip[4]), Ip6: next.ip[6].As16()})
		_, out := n.goesOut(n.a, f, between(f, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, udp(4000, 80)))
		if src, _, _ := n.seen(f, out); src != next.at(f, 4000) {
			t.Errorf("the flow goes on from %s", src)
		}
	}
}

// Translations of services are known to conntrack by the backend: they live and
// end with that flow.
func TestTranslationOfAService(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, short)
		service := &host{ip: addrs("10.96.0.1", "fd96::1")}
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(4000, 8080))) })
		ct, _ := n.flow(f, n.a, n.b, 4000, 8080, protoUDP)
		old := ct.Seen - longAgo
		enter := func() {
			n.put(n.natTable(f), natKey(f, natFwd, n.a.at(f, 4000), service.at(f, 80), protoUDP),
				weftbpf.BpfWeftNat{Addr: addr16(n.b.ip[f]), Port: wire16(8080), Flags: 1, Created: old, Seen: old})
			n.put(n.natTable(f), natKey(f, natBack, n.b.at(f, 8080), n.a.at(f, 4000), protoUDP),
				weftbpf.BpfWeftNat{Addr: addr16(service.ip[f]), Port: wire16(80), Created: old, Seen: old})
		}
		enter()
		if s := n.natGC(); s.Live != 1 {
			t.Errorf("IPv%d: with its flow: %+v", f, s)
		}
		n.change(f, n.a, n.b, 4000, 8080, protoUDP, func(ct *weftbpf.BpfWeftCt) {
			ct.Flags |= uint8(weftbpf.BpfWeftCtFlagWEFT_CT_NAT)
			ct.Seen -= longAgo
		})
		n.gc()
		n.keys("after the flow's end", f, 0)
		enter()
		if s := n.natGC(); s.Expired != 1 {
			t.Errorf("IPv%d: without its flow: %+v", f, s)
		}
		n.keys("without its flow", f, 0)
	}
}

// Half of a flow answers nobody, so it goes even while packets come.
func TestHalfOfATranslationThatIsUsed(t *testing.T) {
	for _, f := range families {
		for _, kind := range []weftbpf.BpfWeftNatKind{natOut, natIn} {
			n := newUplink(t, short)
			at := n.translated(f, n.a, protoUDP, 4000, 80)
			keys := map[weftbpf.BpfWeftNatKind][2]end{
				natOut: {n.a.at(f, 4000), n.far.at(f, 80)}, natIn: {n.far.at(f, 80), at},
			}
			if err := n.natTable(f).Delete(natKey(f, kind, keys[kind][0], keys[kind][1], protoUDP)); err != nil {
				t.Fatal(err)
			}
			n.age(f, kind^1, keys[kind^1][0], keys[kind^1][1], protoUDP, longAgo)
			v := n.nat(f, kind^1, keys[kind^1][0], keys[kind^1][1], protoUDP)
			v.Seen += longAgo
			n.put(n.natTable(f), natKey(f, kind^1, keys[kind^1][0], keys[kind^1][1], protoUDP), v)
			n.natGC()
			n.keys("in use", f, 0)
		}
	}
}
