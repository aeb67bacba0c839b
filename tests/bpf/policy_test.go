// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	allow = 1
	deny  = 2
	audit = 3
)

// entry is one row of a policy set. Without a protocol it is for everything.
type entry struct {
	dir        uint8
	peer       uint32
	proto      uint8
	port, bits uint16
	action     uint8
	precedence uint32
	rule       uint32
	ruleset    uint16
}

// policy gives the pod a set of its own, isolated in both directions.
func (n *node) policy(h *host, entries ...entry) {
	n.Helper()
	set, err := ebpf.NewMap(inside(n, "weft_polsets"))
	if err != nil {
		n.Fatal(err)
	}
	defer set.Close()
	for _, e := range entries {
		k := weftbpf.BpfWeftPolKey{Prefixlen: 40, Identity: e.peer, Dir: e.dir, Proto: e.proto, Port: wire16(e.port)}
		if e.proto != 0 {
			k.Prefixlen = 48 + uint32(e.bits)
		}
		n.put(set, k, weftbpf.BpfWeftPol{Precedence: e.precedence, Rule: e.rule, Action: e.action, Ruleset: e.ruleset})
	}
	n.put(n.objs.WeftPolsets, uint32(h.slot), set)
	h.row.Polset = uint32(h.slot)
	h.row.Flags = 3 | uint16(weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_EGRESS|weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS|
		weftbpf.BpfWeftEpFlagWEFT_EP_RULES_EGRESS|weftbpf.BpfWeftEpFlagWEFT_EP_RULES_INGRESS)
	n.update(h)
}

// verdict asserts what becomes of a first packet from src to dst.
func (n *node) verdict(f int, src, dst *host, proto uint8, l4 []byte, want weftbpf.BpfWeftReason, dir int) {
	n.Helper()
	send := func() uint32 { return n.from(src, sent(f, src, dst, proto, l4)) }
	pass := uint32(actOK)
	if dst.slot != 0 {
		pass = actRedirect
	}
	if src.slot == 0 {
		pass = actOK
		send = func() uint32 { return n.to(dst, n.uplink, got(f, src, dst, proto, l4)) }
	}
	if want == 0 {
		n.passes(pass, send)
	} else {
		n.dropped(want, dir, send)
	}
}

func TestPolicyLookup(t *testing.T) {
	n := newNode(t)
	const tcpP, udpP = protoTCP, protoUDP
	b := n.b.identity
	type probe struct {
		proto uint8
		port  uint16
		want  weftbpf.BpfWeftReason
	}
	for _, tc := range []struct {
		name    string
		entries []entry
		probes  []probe
	}{
		{"nothing allowed", nil, []probe{{tcpP, 80, policyDefault}}},
		{"peer, whole", []entry{{peer: b, action: allow}}, []probe{{tcpP, 80, 0}, {udpP, 1, 0}, {protoSCTP, 9, 0}}},
		{"another peer", []entry{{peer: n.c.identity, action: allow}}, []probe{{tcpP, 80, policyDefault}}},
		{"the other direction", []entry{{dir: ingress, peer: b, action: allow}}, []probe{{tcpP, 80, policyDefault}}},
		{"anyone", []entry{{action: allow}}, []probe{{tcpP, 80, 0}}},
		{"protocol", []entry{{peer: b, proto: tcpP, action: allow}}, []probe{{tcpP, 80, 0}, {udpP, 80, policyDefault}}},
		{"port", []entry{{peer: b, proto: tcpP, port: 80, bits: 16, action: allow}},
			[]probe{{tcpP, 80, 0}, {tcpP, 81, policyDefault}, {udpP, 80, policyDefault}}},
		{"port range by prefix", []entry{{peer: b, proto: tcpP, port: 1024, bits: 6, action: allow}},
			[]probe{{tcpP, 1024, 0}, {tcpP, 2047, 0}, {tcpP, 1023, policyDefault}, {tcpP, 2048, policyDefault}}},
		{"deny of anyone over allow of the peer", []entry{
			{peer: b, action: allow, precedence: 1}, {action: deny, precedence: 2, rule: 9}}, []probe{{tcpP, 80, policyDeny}}},
		{"allow of anyone does not lift a deny of the peer", []entry{
			{peer: b, action: deny, precedence: 2}, {action: allow, precedence: 1}}, []probe{{tcpP, 80, policyDeny}}},
		{"at a tie the peer's", []entry{
			{peer: b, action: allow, precedence: 1}, {action: deny, precedence: 1}}, []probe{{tcpP, 80, 0}}},
		{"longest match within one peer", []entry{{peer: b, action: allow, precedence: 1},
			{peer: b, proto: tcpP, port: 22, bits: 16, action: deny, precedence: 2}},
			[]probe{{tcpP, 80, 0}, {tcpP, 22, policyDeny}}},
		{"allowed port of anyone", []entry{{proto: tcpP, port: 80, bits: 16, action: allow}},
			[]probe{{tcpP, 80, 0}, {tcpP, 81, policyDefault}}},
		{"audit passes", []entry{{peer: b, action: audit}}, []probe{{tcpP, 80, 0}}},
	} {
		for _, f := range families {
			t.Run(tc.name, func(t *testing.T) {
				n := n.in(t)
				n.policy(n.a, tc.entries...)
				for i, p := range tc.probes {
					l4 := map[uint8][]byte{tcpP: tcp(uint16(5000+i), p.port, syn), udpP: udp(uint16(5000+i), p.port),
						protoSCTP: sctp(uint16(5000+i), p.port)}[p.proto]
					n.verdict(f, n.a, n.b, p.proto, l4, p.want, egress)
				}
			})
		}
	}
}

// in is the node with the errors of a subtest.
func (n *node) in(t *testing.T) *node {
	m := *n
	m.TB = t
	return &m
}

func TestPolicyOfBothEnds(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, proto: protoTCP, port: 80, bits: 16, action: allow, rule: 5})
		n.verdict(f, n.a, n.b, protoTCP, tcp(1000, 80, syn), 0, ingress)
		n.verdict(f, n.a, n.b, protoTCP, tcp(1000, 81, syn), policyDefault, ingress)
		n.verdict(f, n.c, n.b, protoTCP, tcp(1000, 80, syn), policyDefault, ingress)
		n.verdict(f, n.far, n.b, protoTCP, tcp(1000, 80, syn), policyDefault, ingress)
		// The answer is not asked about, though b may send nothing of its own.
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 1000, syn|ack))) })
		n.verdict(f, n.b, n.a, protoTCP, tcp(2000, 80, syn), policyDefault, egress)
		ct, _ := n.flow(f, n.a, n.b, 1000, 80, protoTCP)
		if ct.Rule != [2]uint32{0, 5} || ct.Identity != [2]uint32{n.a.identity, n.b.identity} {
			t.Errorf("IPv%d: rules %v, identities %v", f, ct.Rule, ct.Identity)
		}
	}
}

func TestRulesWithoutIsolation(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: deny, rule: 3})
		n.b.row.Flags &^= uint16(weftbpf.BpfWeftEpFlagWEFT_EP_ENFORCE_INGRESS)
		n.update(n.b)
		n.verdict(f, n.a, n.b, protoUDP, udp(1, 2), policyDeny, ingress)
		n.verdict(f, n.c, n.b, protoUDP, udp(1, 2), 0, ingress)
		// A set that is named but missing refuses everything.
		n.b.row.Polset = 99
		n.update(n.b)
		n.verdict(f, n.c, n.b, protoUDP, udp(1, 3), policyDefault, ingress)
	}
}

func TestICMPTypes(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		proto, request, reply := echo(f)
		n.policy(n.a, entry{peer: n.b.identity, proto: proto, port: uint16(request) << 8, bits: 8, action: allow})
		n.verdict(f, n.a, n.b, proto, icmp(request, 0, 7), 0, egress)
		n.verdict(f, n.a, n.b, proto, icmp(reply, 0, 8), policyDefault, egress)
		n.policy(n.b)
		n.policy(n.b, entry{dir: ingress, peer: n.a.identity, action: allow})
		n.verdict(f, n.a, n.b, proto, icmp(request, 0, 9), 0, egress)
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, proto, icmp(reply, 0, 9))) })
		// A query against the direction of a known flow is a flow of its own.
		n.verdict(f, n.b, n.a, proto, icmp(request, 0, 9), policyDefault, egress)
		if ct, answered := n.flow(f, n.a, n.b, 9, 9, proto); ct == nil || !answered {
			t.Errorf("IPv%d: a refused query ended the flow it went against", f)
		}
	}
}

func TestCIDRAndWorld(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		world := uint32(2 + f/2 - 1) // WORLD_IPV4 is 3, WORLD_IPV6 is 4
		const cidr, inner = 1 << 24, 1<<24 + 1
		wide := map[int]string{4: "8.0.0.0/8", 6: "2001:db8::/32"}
		deep := map[int]string{4: "8.8.8.0/24", 6: "2001:db8::/64"}
		n.policy(n.a, entry{peer: world, action: allow})
		n.verdict(f, n.a, n.far, protoUDP, udp(1, 1), 0, egress)
		n.prefix(netip.MustParsePrefix(wide[f]), cidr, 0)
		n.verdict(f, n.a, n.far, protoUDP, udp(1, 2), policyDefault, egress)
		n.policy(n.a, entry{peer: cidr, action: allow})
		n.verdict(f, n.a, n.far, protoUDP, udp(1, 3), 0, egress)
		n.prefix(netip.MustParsePrefix(deep[f]), inner, 0)
		n.verdict(f, n.a, n.far, protoUDP, udp(1, 4), policyDefault, egress)
	}
}

func TestHostIsOnlyTheHostsOwnSockets(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.policy(n.b, entry{dir: ingress, peer: n.self.identity, action: allow})
		n.passes(actOK, func() uint32 { return n.to(n.b, 0, got(f, n.self, n.b, protoTCP, tcp(1000, 80, syn))) })
		// The same address on what is forwarded was translated: it is the world.
		n.dropped(policyDefault, ingress, func() uint32 {
			return n.to(n.b, n.uplink, got(f, n.self, n.b, protoTCP, tcp(1001, 80, syn)))
		})
		n.dropped(policyDefault, ingress, func() uint32 {
			return n.to(n.b, n.uplink, got(f, n.self, n.b, protoTCP, tcp(1000, 80, ack)))
		})
		if ct, _ := n.flow(f, n.self, n.b, 1000, 80, protoTCP); ct == nil {
			t.Errorf("IPv%d: a packet with the host's address ended the host's flow", f)
		}
		n.passes(actOK, func() uint32 { return n.from(n.b, sent(f, n.b, n.self, protoTCP, tcp(80, 1000, syn|ack))) })
		n.verdict(f, n.b, n.self, protoTCP, tcp(1000, 80, syn), policyDefault, egress)
	}
}

func TestPodsAddressFromOutside(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.dropped(spoofed(f), ingress, func() uint32 { return n.to(n.b, n.uplink, got(f, n.a, n.b, protoUDP, udp(1, 2))) })
		// From the pod's own device through the stack it is right.
		n.passes(actOK, func() uint32 { return n.to(n.b, n.a.ifindex, got(f, n.a, n.b, protoUDP, udp(1, 2))) })
		n.open(f, n.a, n.b, 1000, 80)
		n.passes(actOK, func() uint32 { return n.to(n.b, n.a.ifindex, got(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) })
		n.dropped(spoofed(f), ingress, func() uint32 { return n.to(n.b, n.uplink, got(f, n.a, n.b, protoTCP, tcp(1000, 80, ack))) })
		if _, answered := n.flow(f, n.a, n.b, 1000, 80, protoTCP); !answered {
			t.Errorf("IPv%d: a spoofed packet ended the flow", f)
		}
	}
}
