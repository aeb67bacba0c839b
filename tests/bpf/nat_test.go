// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
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

// untouched asserts that a frame leaves as it came.
func (n *node) untouched(what string, in uint32, frame []byte) {
	n.Helper()
	v, out := n.leaves(in, frame)
	if v != asIs || !bytes.Equal(out, frame) {
		n.Errorf("%s: verdict %d, left as\n%x, want\n%x", what, v, out, frame)
	}
}

func TestWhatKeepsItsSource(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		node := &host{identity: 2, ip: addrs("198.51.100.7", "2001:db8:7::7")}
		unknown := &host{identity: 9, ip: addrs("10.0.0.99", "fd00::99")}
		n.address(node, node.identity)
		n.address(unknown, unknown.identity)
		pod := n.a.at(f, 4000)
		packet := func(src, dst end) []byte {
			return n.wire(f, between(f, src, dst, protoUDP, udp(src.Port(), dst.Port(), 1)))
		}
		for what, to := range map[string]*host{"a pod": n.b, "the host": n.self, "a node": node, "the cluster's own": unknown} {
			n.untouched("to "+what, n.a.ifindex, packet(pod, to.at(f, 80)))
		}
		n.untouched("from the host", 0, packet(n.self.at(f, 4000), n.far.at(f, 80)))
		n.untouched("from the host's own, with a pod's address", 0, packet(pod, n.far.at(f, 80)))
		n.untouched("from another device, with a pod's address", n.b.ifindex, packet(pod, n.far.at(f, 80)))
		n.untouched("forwarded for a stranger", n.b.ifindex, packet(node.at(f, 4000), n.far.at(f, 80)))
		n.untouched("ARP", 0, eth(n.far.mac, n.self.mac, ethARP, arp(1, n.self.mac, n.self.ip[4], n.far.ip[4])))
		broken := packet(pod, n.far.at(f, 80))
		broken[14] = 0x35 // neither version
		n.untouched("a header that cannot be read", n.a.ifindex, broken)
		n.untouched("neighbour discovery", 0, n.wire(6, ip6(n.self.ip[6], n.far.ip[6], protoICMPv6, 255, nd(135, n.far.ip[6], 1, &n.self.mac))))

		n.put(n.objs.WeftUplink, n.uplink, weftbpf.BpfWeftUplinkRow{})
		n.untouched("a family that is off", n.a.ifindex, packet(pod, n.far.at(f, 80)))
		if err := n.objs.WeftUplink.Delete(n.uplink); err != nil {
			t.Fatal(err)
		}
		n.untouched("a device that is no uplink", n.a.ifindex, packet(pod, n.far.at(f, 80)))
		if k := n.count(n.natTable(f)); k != 0 {
			t.Errorf("IPv%d: %d keys were made", f, k)
		}
	}
}

// What policies call by a prefix is outside, too, and an API server may be.
func TestPrefixesOfPoliciesAndAPIServersAreOutside(t *testing.T) {
	for _, identity := range []uint32{1 << 24, uint32(weftbpf.BpfWeftReservedWEFT_ID_KUBE_APISERVER)} {
		for _, f := range families {
			n := newUplink(t, nil)
			n.address(n.far, identity)
			_, out := n.goesOut(n.a, f, between(f, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, udp(4000, 80)))
			if src, _, _ := n.seen(f, out); src != n.self.at(f, 4000) {
				t.Errorf("to identity %d left from %s", identity, src)
			}
		}
	}
}

// What was opened from outside, and what was answered before the device became an
// uplink, goes on under the pod's own address.
func TestFlowsOfBefore(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		pod, far := n.a.at(f, 80), n.far.at(f, 4000)
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, protoTCP, tcp(4000, 80, syn))) })
		answer := between(f, pod, far, protoTCP, tcp(80, 4000, syn|ack))
		n.passes(actOK, func() uint32 { return n.from(n.a, eth(n.a.gw, n.a.mac, etherType(f), answer)) })
		n.untouched("an answer to the outside", n.a.ifindex, n.wire(f, answer))

		n.passes(actOK, func() uint32 { return n.from(n.a, sent(f, n.a, n.far, protoTCP, tcp(5000, 80, syn))) })
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, protoTCP, tcp(80, 5000, syn|ack))) })
		n.untouched("a connection that was open before", n.a.ifindex,
			n.wire(f, between(f, n.a.at(f, 5000), n.far.at(f, 80), protoTCP, tcp(5000, 80, ack))))
		if k := n.count(n.natTable(f)); k != 0 {
			t.Errorf("IPv%d: %d keys were made", f, k)
		}
		_, out := n.goesOut(n.a, f, between(f, n.a.at(f, 5000), n.far.at(f, 80), protoTCP, tcp(5000, 80, syn)))
		if src, _, _ := n.seen(f, out); src != n.self.at(f, 5000) {
			t.Errorf("the port's next connection left from %s", src)
		}
	}
}

// A translated flow of a pod, for what may not be taken for it.
func (n *node) translated(f int, pod *host, proto uint8, sport, dport uint16) end {
	n.Helper()
	v, out := n.goesOut(pod, f, between(f, pod.at(f, sport), n.far.at(f, dport), proto, message(f, proto, sport, dport, false)))
	src, _, _ := n.seen(f, out)
	if v != asIs || src.Addr() != n.self.ip[f] {
		n.Fatalf("verdict %d, left from %s", v, src)
	}
	return src
}

// The host's own flow with the ports of a pod's gets another port, and both hear
// their own answers.
func TestHostMakesWay(t *testing.T) {
	for _, f := range families {
		for _, proto := range protocols(f) {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) {
				n := newUplink(t, nil)
				n.translated(f, n.a, proto, 4000, 80)
				own := between(f, n.self.at(f, 4000), n.far.at(f, 80), proto, message(f, proto, 4000, 80, false))
				v, out := n.leaves(0, n.wire(f, own))
				moved, _, _ := n.seen(f, out)
				if v != asIs || moved.Addr() != n.self.ip[f] || moved.Port() == 4000 {
					t.Fatalf("verdict %d, the host's left from %s", v, moved)
				}
				for at, want := range map[end]end{moved: n.self.at(f, 4000), n.self.at(f, 4000): n.a.at(f, 4000)} {
					_, out := n.comes(n.wire(f, between(f, n.far.at(f, 80), at, proto, message(f, proto, 80, at.Port(), true))))
					if _, dst, _ := n.seen(f, out); dst != want {
						t.Errorf("the answer to %s goes to %s", at, dst)
					}
				}
			})
		}
	}
}

// An open connection of the host's is not even looked up.
func TestHostsConnectionGoesOn(t *testing.T) {
	n := newUplink(t, nil)
	for _, f := range families {
		n.translated(f, n.a, protoTCP, 4000, 80)
		n.untouched("a connection that is open", 0,
			n.wire(f, between(f, n.self.at(f, 4000), n.far.at(f, 80), protoTCP, tcp(4000, 80, ack))))
	}
}

// An identifier is a pod's for answers only, and only for its questions.
func TestEchoOfOthers(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		proto, request, reply := echo(f)
		n.translated(f, n.a, proto, 7, 7)
		frame := n.wire(f, between(f, n.far.at(f, 0), n.self.at(f, 0), proto, icmp(request, 0, 7)))
		if _, out := n.comes(frame); !bytes.Equal(out, frame) {
			t.Errorf("IPv%d: a question to the host was turned to the pod", f)
		}
		n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, got(f, n.far, n.a, proto, icmp(request, 0, 7))) })
		n.untouched("an answer to a question from outside", n.a.ifindex,
			n.wire(f, between(f, n.a.at(f, 0), n.far.at(f, 0), proto, icmp(reply, 0, 7))))
	}
}
