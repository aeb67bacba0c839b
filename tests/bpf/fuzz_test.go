// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/cilium/ebpf"
)

// FuzzPackets gives both programs anything: there is always a verdict that the
// kernel knows, and a drop counts for exactly one reason, a pass for none.
func FuzzPackets(f *testing.F) {
	n := newNode(f)
	n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
	for _, fam := range families {
		proto, request, reply := echo(fam)
		inner := packet(fam, n.a.ip[fam], n.b.ip[fam], protoUDP, udp(1, 2))
		for _, l4 := range [][]byte{tcp(1000, 80, syn), tcp(1000, 80, rst|ack, 1, 2, 3)} {
			f.Add(sent(fam, n.a, n.b, protoTCP, l4), false, uint32(0))
			f.Add(got(fam, n.far, n.a, protoTCP, l4), true, uint32(1200))
		}
		f.Add(sent(fam, n.a, n.b, protoUDP, udp(1, 2)), false, uint32(0))
		f.Add(sent(fam, n.a, n.b, protoSCTP, sctp(1, 2)), false, uint32(0))
		f.Add(sent(fam, n.a, n.b, proto, icmp(request, 0, 1)), false, uint32(0))
		f.Add(got(fam, n.b, n.a, proto, icmp(reply, 0, 1)), true, uint32(0))
		f.Add(got(fam, n.b, n.a, proto, icmp(map[int]uint8{4: 3, 6: 1}[fam], 0, 0, inner...)), true, uint32(0))
	}
	f.Add(eth(n.a.gw, n.a.mac, ethIPv4, ip4(n.a.ip[4], n.b.ip[4], protoUDP, udp(1, 2), ip4Opt{frag: 0x2000, options: make([]byte, 4)})), false, uint32(0))
	f.Add(eth(n.a.gw, n.a.mac, ethIPv6, ip6(n.a.ip[6], n.b.ip[6], 0, 64, concat(ext(60), ext(44), frag6(17, 0, true, 1), udp(1, 2)))), false, uint32(0))
	f.Add(eth(n.a.gw, n.a.mac, ethIPv6, ip6(n.a.ip[6], n.b.ip[6], protoICMPv6, 255, nd(136, n.a.ip[6], 2, &n.a.mac))), false, uint32(0))
	f.Add(eth(n.a.gw, n.a.mac, ethARP, arp(1, n.a.mac, n.a.ip[4], n.b.ip[4])), false, uint32(0))

	f.Fuzz(func(t *testing.T, frame []byte, in bool, gso uint32) {
		prog, ctx, pass := n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, uint32(actRedirect)
		if in {
			prog, ctx, pass = n.objs.WeftToPod, skb{Ifindex: n.a.ifindex, IngressIfindex: n.uplink}, actOK
		}
		if gso > 0 {
			ctx.GsoSize, ctx.GsoSegs = gso%1400+1, 0
		}
		n := *n
		n.TB = t
		before := n.counters()
		verdict, err := prog.Run(&ebpf.RunOptions{Data: frame, Context: ctx, Repeat: 1})
		if err != nil {
			return // the kernel does not take every length for a packet
		}
		drops, passes := uint64(0), uint64(0)
		for k, c := range n.counters() {
			if k[0] == 0 {
				passes += c - before[k]
			} else {
				drops += c - before[k]
			}
		}
		switch {
		case verdict == actShot && (drops != 1 || passes != 0):
			t.Errorf("a drop counted %d drops, %d passes", drops, passes)
		case verdict == actOK && (drops != 0 || passes != 1):
			t.Errorf("a pass counted %d drops, %d passes", drops, passes)
		case verdict == actRedirect && (pass != actRedirect || drops != 0 || passes != 2):
			t.Errorf("a local delivery counted %d drops, %d passes", drops, passes)
		case verdict != actShot && verdict != actOK && verdict != actRedirect:
			t.Errorf("verdict %d", verdict)
		}
	})
}
