// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	natOut  = weftbpf.BpfWeftNatKindWEFT_NAT_OUT
	natIn   = weftbpf.BpfWeftNatKindWEFT_NAT_IN
	natFwd  = weftbpf.BpfWeftNatKindWEFT_NAT_FWD
	natBack = weftbpf.BpfWeftNatKindWEFT_NAT_BACK
)

// message is a transport from one port to another; ICMP takes the first for its
// identifier, and is a query or, turned round, its answer.
func message(f int, proto uint8, sport, dport uint16, answer bool) []byte {
	switch proto {
	case protoTCP:
		if answer {
			return tcp(sport, dport, syn|ack, 1, 2, 3)
		}
		return tcp(sport, dport, syn, 1, 2, 3)
	case protoUDP:
		return udp(sport, dport, 'o', 'd', 'd')
	}
	_, request, reply := echo(f)
	if answer {
		return icmp(reply, 0, dport, 'x')
	}
	return icmp(request, 0, sport, 'x')
}

func protocols(f int) []uint8 {
	icmpProto, _, _ := echo(f)
	return []uint8{protoTCP, protoUDP, icmpProto}
}

// A pod's flow leaves as the node's, and its answers find the pod.
func TestMasquerade(t *testing.T) {
	n := newUplink(t, nil)
	for _, f := range families {
		for _, proto := range protocols(f) {
			pod, remote, node := n.a.at(f, 4000), n.far.at(f, 80), n.self.at(f, 4000)
			if proto == protoICMP || proto == protoICMPv6 {
				remote = n.far.at(f, 4000)
			}
			for range 2 {
				v, out := n.goesOut(n.a, f, between(f, pod, remote, proto, message(f, proto, 4000, 80, false)))
				src, dst, _ := n.seen(f, out)
				if v != asIs || src != node || dst != remote {
					t.Fatalf("IPv%d, protocol %d: verdict %d, left from %s to %s", f, proto, v, src, dst)
				}
				v, out = n.comes(n.wire(f, between(f, remote, node, proto, message(f, proto, 80, 4000, true))))
				src, dst, _ = n.seen(f, out)
				if v != asIs || src != remote || dst != pod {
					t.Fatalf("IPv%d, protocol %d: verdict %d, came from %s to %s", f, proto, v, src, dst)
				}
				n.passes(actOK, func() uint32 {
					return n.to(n.a, n.uplink, eth(n.a.mac, n.a.gw, etherType(f), out[14:]))
				})
			}
			if n.nat(f, natOut, pod, remote, proto) == nil || n.nat(f, natIn, remote, node, proto) == nil {
				t.Errorf("IPv%d, protocol %d: a key is missing", f, proto)
			}
		}
	}
}

// Two pods with one port towards one remote: the second gets another port, and
// both hear their own answers.
func TestSamePortOfTwoPods(t *testing.T) {
	n := newUplink(t, nil)
	for _, f := range families {
		for _, proto := range protocols(f) {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) {
				var at []end
				for _, pod := range []*host{n.a, n.b} {
					_, out := n.goesOut(pod, f, between(f, pod.at(f, 5000), n.far.at(f, 80), proto, message(f, proto, 5000, 80, false)))
					src, _, _ := n.seen(f, out)
					at = append(at, src)
				}
				if at[0] != n.self.at(f, 5000) || at[1].Addr() != n.self.ip[f] || at[1].Port() < 32768 {
					t.Fatalf("left from %s", at)
				}
				for i, pod := range []*host{n.a, n.b} {
					_, out := n.comes(n.wire(f, between(f, n.far.at(f, 80), at[i], proto, message(f, proto, 80, at[i].Port(), true))))
					if _, dst, _ := n.seen(f, out); dst != pod.at(f, 5000) {
						t.Errorf("the answer to %s goes to %s", at[i], dst)
					}
				}
			})
		}
	}
}
