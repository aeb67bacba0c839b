// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
	"github.com/weftmesh/weft/pkg/flow"
	"github.com/weftmesh/weft/tests/level"
)

// specimen is a frame, the program that gets it, and where it came from.
type specimen struct {
	frame []byte
	in    bool // to the pod a, else from it
	from  uint8
}

// fuzzNode has a flow of each kind between a and b, so that answers and errors
// about them are met, and a policy in which some of what is new is refused.
func fuzzNode(t testing.TB) *node {
	n := newNode(t)
	n.policy(n.a, entry{dir: egress, peer: n.b.identity, action: allow}, entry{dir: ingress, peer: n.b.identity, action: allow})
	n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow}, entry{dir: egress, action: allow},
		entry{dir: ingress, proto: protoUDP, action: deny, precedence: 2, rule: 4})
	for _, f := range families {
		n.open(f, n.a, n.b, 1000, 80)
		proto, request, _ := echo(f)
		n.from(n.a, sent(f, n.a, n.b, proto, icmp(request, 0, 1)))
		n.from(n.a, sent(f, n.a, n.b, protoSCTP, sctp(1, 2)))
		n.from(n.b, sent(f, n.b, n.a, protoUDP, udp(7, 8)))
		n.service(f, protoTCP, n.b) // and one of UDP that nobody serves
		n.service(f, protoUDP)
		n.from(n.a, sent(f, n.a, vip, protoTCP, tcp(5000, 80, syn)))
	}
	n.drain()
	return n
}

// specimens are valid frames of every kind that the programs tell apart.
func (n *node) specimens() (out []specimen) {
	add := func(f int, proto uint8, l4 []byte) {
		for from := range uint8(3) {
			out = append(out, specimen{sent(f, n.a, n.b, proto, l4), false, from},
				specimen{got(f, n.b, n.a, proto, l4), true, from}, specimen{got(f, n.far, n.a, proto, l4), true, from})
		}
	}
	for _, f := range families {
		proto, request, reply := echo(f)
		for _, flags := range []uint8{syn, ack, syn | ack, rst | ack, fin | ack} {
			add(f, protoTCP, tcp(1000, 80, flags, 1, 2, 3))
			add(f, protoTCP, tcp(80, 1000, flags))
		}
		add(f, protoUDP, udp(7, 8, 1, 2, 3))
		add(f, protoSCTP, sctp(1, 2))
		add(f, 47, make([]byte, 20))
		add(f, proto, icmp(request, 0, 1))
		add(f, proto, icmp(reply, 0, 1))
		for _, quoted := range [][]byte{
			packet(f, n.a.ip[f], n.b.ip[f], protoTCP, tcp(1000, 80, ack)), packet(f, n.b.ip[f], n.a.ip[f], protoTCP, tcp(80, 1000, ack)),
			packet(f, n.a.ip[f], n.b.ip[f], proto, icmp(request, 0, 1)), packet(f, n.b.ip[f], n.a.ip[f], protoUDP, udp(7, 8)),
		} {
			add(f, proto, icmp(map[int]uint8{4: 3, 6: 1}[f], 0, 0, quoted...))
		}
	}
	return append(append(out, n.calls()...), n.oddSpecimens()...)
}

// calls are packets to services, and what comes back.
func (n *node) calls() (out []specimen) {
	from := func(frame []byte) { out = append(out, specimen{frame, false, 0}) }
	for _, f := range families {
		proto, _, _ := echo(f)
		unreachable := map[int]uint8{4: 3, 6: 1}[f]
		for _, flags := range []uint8{syn, ack, rst | ack, fin | ack} {
			from(sent(f, n.a, vip, protoTCP, tcp(5000, 80, flags, 1, 2, 3)))
		}
		from(sent(f, n.a, vip, protoUDP, udp(5000, 80, 1, 2, 3)))
		from(sent(f, n.a, vip, proto, icmp(unreachable, 1, 0, packet(f, vip.ip[f], n.a.ip[f], protoTCP, tcp(80, 5000, ack))...)))
		out = append(out, specimen{got(f, n.b, n.a, protoTCP, tcp(8080, 5000, syn|ack)), true, 2})
	}
	return out
}

// oddSpecimens have fragments, options, extension headers; discovery and ARP.
func (n *node) oddSpecimens() (out []specimen) {
	a4, b4, a6, b6 := n.a.ip[4], n.b.ip[4], n.a.ip[6], n.b.ip[6]
	pair := func(proto uint16, there, back []byte) {
		out = append(out, specimen{eth(n.a.gw, n.a.mac, proto, there), false, 0})
		for from := range uint8(3) {
			out = append(out, specimen{eth(n.a.mac, n.a.gw, proto, back), true, from})
		}
	}
	for _, o := range []ip4Opt{{id: 9, frag: 0x2000}, {id: 9, frag: 100}, {id: 9, frag: 0x2001}, {options: make([]byte, 4)},
		{options: make([]byte, 40)}, {ttl: 1}} {
		pair(ethIPv4, ip4(a4, b4, protoUDP, udp(7, 8), o), ip4(b4, a4, protoTCP, tcp(80, 1000, ack), o))
	}
	const hbh, routing, fragHdr, ah, dst = 0, 43, 44, 51, 60
	long := ext(protoTCP)
	long[1] = 2
	for _, h := range []struct {
		first uint8
		parts []byte
	}{
		{hbh, concat(ext(dst), ext(protoUDP), udp(7, 8))},
		{dst, concat(ext(fragHdr), frag6(protoUDP, 0, true, 1), udp(7, 8))},
		{fragHdr, concat(frag6(protoTCP, 100, false, 1), make([]byte, 16))},
		{fragHdr, concat(frag6(protoICMPv6, 0, true, 2), icmp(128, 0, 1))},
		{routing, concat(ext(protoTCP, 2, 0), tcp(1000, 80, ack))},
		{ah, concat(long, make([]byte, 8), tcp(1000, 80, ack))},
		{dst, concat(ext(dst), ext(dst), ext(dst), ext(dst), ext(dst), ext(protoUDP), udp(7, 8))},
	} {
		pair(ethIPv6, ip6(a6, b6, h.first, 64, h.parts), ip6(b6, a6, h.first, 64, h.parts))
	}
	for _, typ := range []uint8{133, 134, 135, 136, 137, 138, 143} {
		pair(ethIPv6, ip6(n.a.ll, b6, protoICMPv6, 255, nd(typ, a6, 2, &n.a.mac)), ip6(b6, a6, protoICMPv6, 255, nd(typ, b6, 1, &n.a.gw)))
	}
	pair(ethARP, arp(1, n.a.mac, a4, b4), arp(2, n.a.gw, b4, a4))
	pair(0x8100, concat([]byte{0, 1, 8, 0}, ip4(a4, b4, protoUDP, udp(7, 8), ip4Opt{})), make([]byte, 40))
	return out
}

// accounted runs a specimen: there is a verdict that the kernel knows, and a drop
// counts for exactly one reason, a pass for none. It tells the reason.
func (n *node) accounted(t testing.TB, s specimen, gso uint32) (reason int) {
	n = n.with(t)
	prog, ctx := n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}
	if s.in {
		prog = n.objs.WeftToPod
		ctx.IngressIfindex = [3]uint32{n.uplink, 0, n.b.ifindex}[s.from%3]
	}
	if gso > 0 {
		ctx.GsoSize = gso%1400 + 1
	}
	before := n.counters()
	verdict, err := prog.Run(&ebpf.RunOptions{Data: s.frame, Context: ctx, Repeat: 1})
	if errors.Is(err, unix.EINVAL) {
		return -1 // the kernel does not take every length for a packet
	}
	if err != nil {
		t.Fatalf("running: %v", err)
	}
	drops, passes := uint64(0), uint64(0)
	for k, c := range n.counters() {
		if k[0] == 0 {
			passes += c - before[k]
		} else if c != before[k] {
			drops += c - before[k]
			reason = k[0]
		}
	}
	switch {
	case verdict == actShot && (drops != 1 || passes != 0):
		t.Errorf("a drop counted %d drops, %d passes: % x", drops, passes, s.frame)
	case verdict == actOK && (drops != 0 || passes != 1):
		t.Errorf("a pass counted %d drops, %d passes: % x", drops, passes, s.frame)
	case verdict == actRedirect && reason == int(noBackend) && drops == 1 && passes == 0: // and the pod is told
	case verdict == actRedirect && (s.in || drops != 0 || passes != 2):
		t.Errorf("a local delivery counted %d drops, %d passes: % x", drops, passes, s.frame)
	case verdict != actShot && verdict != actOK && verdict != actRedirect:
		t.Errorf("verdict %d: % x", verdict, s.frame)
	}
	return reason
}

// with is the node with the errors of another test.
func (n *node) with(t testing.TB) *node {
	m := *n
	m.TB = t
	return &m
}

// FuzzPackets gives both programs anything.
func FuzzPackets(f *testing.F) {
	n := fuzzNode(f)
	for i, s := range n.specimens() {
		f.Add(s.frame, s.in, s.from, uint32(i%3*600))
	}
	f.Fuzz(func(t *testing.T, frame []byte, in bool, from uint8, gso uint32) {
		n.accounted(t, specimen{frame, in, from}, gso)
	})
}

// TestMutatedFramesHaveAVerdictAndAReason changes valid frames a little, so that
// they get far into the programs, and looks at the events too: each can be
// decoded, and each reason that a packet alone can bring about is met.
func TestMutatedFramesHaveAVerdictAndAReason(t *testing.T) {
	n := fuzzNode(t)
	all := n.specimens()
	random := rand.New(rand.NewPCG(level.Seed(), 3))
	met := map[int]int{}
	for range level.Scale(300_000) {
		s := all[random.IntN(len(all))]
		s.frame = mutate(random, s.frame, all[random.IntN(len(all))].frame)
		gso := uint32(0)
		if random.IntN(8) == 0 {
			gso = random.Uint32()
		}
		met[n.accounted(t, s, gso)]++
		if n.events.AvailableBytes() > 1<<20 {
			n.decodeAll(t)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	n.decodeAll(t)
	// What a packet alone cannot bring about at a pod's device.
	rare := []weftbpf.BpfWeftReason{weftbpf.BpfWeftReasonWEFT_DROP_NO_ENDPOINT, weftbpf.BpfWeftReasonWEFT_DROP_CT_FULL,
		weftbpf.BpfWeftReasonWEFT_DROP_REDIRECT, snatPorts, natFull,
		tunnelPeer, weftbpf.BpfWeftReasonWEFT_DROP_TUNNEL_SOURCE, tunnelTarget, tunnelPort, barePod,
		proxyNotReady, needsProxy, proxyClash}
	for r := range int(weftbpf.BpfWeftReasonWEFT_REASON_MAX) {
		if met[r] == 0 && !slices.Contains(rare, weftbpf.BpfWeftReason(r)) {
			t.Errorf("reason %d was never met", r)
		}
	}
	t.Logf("packets by reason: %v", met)
}

func (n *node) decodeAll(t *testing.T) {
	t.Helper()
	for n.events.AvailableBytes() > 0 {
		rec, err := n.events.Read()
		if err != nil {
			t.Fatal(err)
		}
		if e, err := flow.Decode(rec.RawSample); err != nil || int(e.Reason) >= int(weftbpf.BpfWeftReasonWEFT_REASON_MAX) {
			t.Fatalf("event %+v: %v", e, err)
		}
	}
}

// mutate changes a copy in one to three ways.
func mutate(r *rand.Rand, frame, other []byte) []byte {
	b := bytes.Clone(frame)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(b))
		if r.IntN(3) > 0 && len(b) > 14 {
			at = 14 + r.IntN(len(b)-14) // mostly behind the addresses of the device
		}
		switch r.IntN(7) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = [...]byte{0, 1, 6, 17, 44, 58, 0x7f, 0x80, 0xff}[r.IntN(9)]
		case 2:
			b[at] += byte(r.IntN(9)) - 4 // lengths and offsets
		case 3:
			b = b[:max(14, at)]
		case 4:
			b = append(b, make([]byte, r.IntN(64))...)
		case 5: // something twice, as headers
			n := 8 * (1 + r.IntN(2))
			if at+n < len(b) {
				b = concat(b[:at+n], b[at:])
			}
		case 6: // the end of another frame
			if at < len(other) {
				b = concat(b[:at], other[at:])
			}
		}
	}
	return b
}
