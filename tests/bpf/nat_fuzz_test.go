// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// FuzzUplink gives the uplink's programs anything: a packet passes with its length,
// or is dropped for one of the few reasons that there are; what the host itself
// sends, and what comes in, is dropped only for want of room or of a port.
func FuzzUplink(f *testing.F) {
	n := newUplink(f, fourPorts)
	for _, fam := range families {
		proto, _, _ := echo(fam)
		n.translated(fam, n.a, protoUDP, 4000, 80)
		for _, p := range append(protocols(fam), protoSCTP) {
			l4 := sctp(4000, 80)
			if p != protoSCTP {
				l4 = message(fam, p, 4000, 80, false)
			}
			f.Add(n.wire(fam, between(fam, n.a.at(fam, 4000), n.far.at(fam, 80), p, l4)), uint8(0), uint32(0))
			f.Add(n.wire(fam, between(fam, n.self.at(fam, 4000), n.far.at(fam, 80), p, l4)), uint8(1), uint32(1200))
			f.Add(n.wire(fam, between(fam, n.far.at(fam, 80), n.self.at(fam, 4000), p, l4)), uint8(2), uint32(0))
		}
		quoted := between(fam, n.self.at(fam, 4000), n.far.at(fam, 80), protoUDP, udp(4000, 80))
		for _, kind := range errorsOf(fam) {
			f.Add(n.wire(fam, about(fam, n.far.at(fam, 0), n.self.at(fam, 0), kind, quoted)), uint8(2), uint32(0))
			f.Add(n.wire(fam, between(fam, n.a.at(fam, 0), n.far.at(fam, 0), proto, icmp(kind[0], kind[1], 0, quoted...))), uint8(0), uint32(0))
		}
		f.Add(n.wire(fam, piece(fam, n.a, n.far, protoUDP, 7, make([]byte, 64), 0, 24)), uint8(0), uint32(0))
		f.Add(n.wire(fam, piece(fam, n.a, n.far, protoUDP, 7, make([]byte, 64), 24, 48)), uint8(0), uint32(0))
	}
	want := []weftbpf.BpfWeftReason{snatPorts, natFull, fragment, unsupportedL4}

	f.Fuzz(func(t *testing.T, frame []byte, way uint8, gso uint32) {
		prog, ctx := n.objs.WeftToNet, skb{Ifindex: n.uplink, IngressIfindex: n.a.ifindex}
		reasons := want
		switch way % 3 {
		case 1:
			ctx.IngressIfindex, reasons = 0, want[:2]
		case 2:
			prog, ctx.IngressIfindex, reasons = n.objs.WeftFromNet, n.uplink, want[1:2]
		}
		if gso > 0 {
			ctx.GsoSize = gso%1400 + 1
		}
		n := *n
		n.TB = t
		before := n.counters()
		opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64), Context: ctx, Repeat: 1}
		verdict, err := prog.Run(opts)
		if err != nil {
			return // the kernel does not take every length for a packet
		}
		drops := uint64(0)
		for k, c := range n.counters() {
			if more := c - before[k]; more > 0 {
				drops += more
				if !slices.Contains(reasons, weftbpf.BpfWeftReason(k[0])) {
					t.Errorf("way %d: dropped for reason %d", way%3, k[0])
				}
			}
		}
		if verdict == asIs && drops != 0 || verdict == actShot && drops != 1 || verdict != asIs && verdict != actShot {
			t.Errorf("verdict %#x, %d drops", verdict, drops)
		}
		if len(opts.DataOut) != len(frame) {
			t.Errorf("%d bytes became %d", len(frame), len(opts.DataOut))
		}
	})
}
