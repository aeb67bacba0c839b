// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const markInside = 0x400 // of a pod's packet that keeps its source

// elsewhere is a pod of another node.
func (n *node) elsewhere() *host {
	n.Helper()
	h := &host{identity: 1234, ip: addrs("10.0.7.9", "fd00:7::9")}
	n.address(h, h.identity)
	return h
}

// markOf sends a datagram of a pod and gives the mark with which the stack gets it.
func (n *node) markOf(f int, to end) uint32 {
	n.Helper()
	v, _, out := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex, Mark: 0xf00},
		eth(n.a.gw, n.a.mac, etherType(f), between(f, n.a.at(f, 4000), to, protoUDP, udp(4000, to.Port()))))
	if v != actOK {
		n.Errorf("IPv%d to %v: verdict %d", f, to, v)
	}
	return out.Mark
}

// An uplink need not look at what a pod sends inside of the cluster: the pod's device
// says so, with the packet that opens a flow already.
func TestFlowsInsideAreMarkedForTheUplink(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		away := n.elsewhere()
		for what, c := range map[string]struct {
			to   end
			want uint32
		}{"a pod elsewhere": {away.at(f, 80), markInside}, "the outside": {n.far.at(f, 80), 0}} {
			if m := n.markOf(f, c.to); m != c.want {
				t.Errorf("IPv%d: the first packet to %s has mark %#x, want %#x", f, what, m, c.want)
			}
			n.passes(actOK, func() uint32 {
				return n.to(n.a, n.uplink, eth(n.a.mac, n.a.gw, etherType(f), between(f, c.to, n.a.at(f, 4000), protoUDP, udp(80, 4000))))
			})
			if m := n.markOf(f, c.to); m != c.want {
				t.Errorf("IPv%d: the flow to %s has mark %#x, want %#x", f, what, m, c.want)
			}
		}
	}
}

// Only a pod's device gives the mark: with it, also what would be translated leaves as it
// is; from elsewhere it says nothing.
func TestTheUplinkBelievesTheMarkOfPodsDevicesOnly(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		frame := n.wire(f, between(f, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, udp(4000, 80)))
		n.put(n.natTable(f), natKey(f, natOut, n.a.at(f, 4000), n.far.at(f, 80), protoUDP),
			weftbpf.BpfWeftNat{Addr: addr16(n.self.ip[f]), Port: wire16(50000)})
		for in, same := range map[uint32]bool{n.a.ifindex: true, n.uplink: false, 0: false} {
			v, out, _ := n.run(n.objs.WeftToNet, skb{Ifindex: n.uplink, IngressIfindex: in, Mark: markInside}, frame)
			if v != asIs || bytes.Equal(out, frame) != same {
				t.Errorf("IPv%d from device %d: verdict %d, left as it was: %v, want %v", f, in, v, !same, same)
			}
		}
	}
}

// A flow that leaves with the node's address goes on so when its other side turns out
// to be inside.
func TestATranslatedFlowIsNeverInside(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		to := n.far.at(f, 80)
		n.goesOut(n.a, f, between(f, n.a.at(f, 4000), to, protoUDP, udp(4000, 80)))
		n.passes(actOK, func() uint32 {
			return n.to(n.a, n.uplink, eth(n.a.mac, n.a.gw, etherType(f), between(f, to, n.a.at(f, 4000), protoUDP, udp(80, 4000))))
		})
		n.address(n.far, 1234)
		n.sweep(netip.PrefixFrom(n.far.ip[f], n.far.ip[f].BitLen()).String())
		for range 2 { // decided again, and then known
			if m := n.markOf(f, to); m != 0 {
				t.Errorf("IPv%d: a translated flow has mark %#x", f, m)
			}
		}
	}
}

// BenchmarkUplinkInside is what a pod's packet to another node's pod pays at the uplink,
// with the pod's device's word and without it.
func BenchmarkUplinkInside(b *testing.B) {
	for _, f := range families {
		n := newUplink(b, nil)
		frame := n.wire(f, between(f, n.a.at(f, 4000), n.elsewhere().at(f, 80), protoTCP, tcp(4000, 80, ack)))
		leaves := func(name string, mark uint32) *repeated {
			return n.repeat(name, n.objs.WeftToNet, ebpf.AttachTCXEgress, skb{Ifindex: n.uplink, IngressIfindex: n.a.ifindex, Mark: mark}, frame)
		}
		b.Run(fmt.Sprintf("v%d", f), func(b *testing.B) { compare(b, n, leaves("known", markInside), leaves("looked_up", 0)) })
	}
}
