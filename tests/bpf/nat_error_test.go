// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"testing"
)

// unreachable and tooBig are types and codes of ICMP errors.
func errorsOf(f int) map[string][2]uint8 {
	if f == 4 {
		return map[string][2]uint8{"port unreachable": {3, 3}, "too big": {3, 4}, "time exceeded": {11, 0}}
	}
	return map[string][2]uint8{"port unreachable": {1, 4}, "too big": {2, 0}, "time exceeded": {3, 0}}
}

// about is an ICMP error of a host about a packet.
func about(f int, from, to end, kind [2]uint8, quoted []byte) []byte {
	proto, _, _ := echo(f)
	return between(f, from, to, proto, icmp(kind[0], kind[1], 0, quoted...))
}

// quote is the packet that an error quotes, as a frame.
func quote(l4 []byte) []byte { return append(make([]byte, 14), l4[8:]...) }

// quotes asserts what the quoted packet says; its header's sum must be right.
func (n *node) quotes(f int, l4 []byte, src, dst end) {
	n.Helper()
	q := quote(l4)
	if f == 4 {
		if s := checksum(q[14:34]); s != 0 {
			n.Errorf("the quoted header's sum is off by %#x", s)
		}
	}
	proto, at := q[14+9], 34
	if f == 6 {
		proto, at = q[14+6], 54
	}
	from, to := ends(f, q)
	ports := [2]uint16{be.Uint16(q[at:]), be.Uint16(q[at+2:])}
	if proto == protoICMP || proto == protoICMPv6 {
		ports = [2]uint16{be.Uint16(q[at+4:]), be.Uint16(q[at+4:])}
	}
	if from != string(src.Addr().AsSlice()) || to != string(dst.Addr().AsSlice()) || ports != [2]uint16{src.Port(), dst.Port()} {
		n.Errorf("quoted is a packet from %x to %x, ports %d; want %s, %s", from, to, ports, src, dst)
	}
}

// Errors from the remote and from routers between come to the pod, about the
// packet that the pod sent.
func TestErrorsComeBack(t *testing.T) {
	router := &host{ip: addrs("203.0.113.9", "2001:db8:9::9")}
	for _, f := range families {
		for what, kind := range errorsOf(f) {
			for _, proto := range protocols(f) {
				for _, from := range []*host{router, {ip: addrs("8.8.8.8", "2001:db8::8")}} {
					t.Run(fmt.Sprintf("v%d/%s/%d/%s", f, what, proto, from.ip[f]), func(t *testing.T) {
						n := newUplink(t, nil)
						n.translated(f, n.b, proto, 4000, 80) // so that the pod's port changes
						at := n.translated(f, n.a, proto, 4000, 80)
						far, pod := n.far.at(f, 80), n.a.at(f, 4000)
						if proto == protoICMP || proto == protoICMPv6 {
							far = n.far.at(f, at.Port())
						}
						quoted := between(f, at, far, proto, message(f, proto, at.Port(), 80, false))
						v, out := n.comes(n.wire(f, about(f, from.at(f, 0), n.self.at(f, 0), kind, quoted)))
						src, dst, l4 := n.seen(f, out)
						if v != asIs || src.Addr() != from.ip[f] || dst.Addr() != pod.Addr() {
							t.Fatalf("verdict %d, from %s to %s", v, src, dst)
						}
						if proto == protoICMP || proto == protoICMPv6 {
							far = n.far.at(f, 4000)
						}
						n.quotes(f, l4, pod, far)
						n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, eth(n.a.mac, n.a.gw, etherType(f), out[14:])) })
					})
				}
			}
		}
	}
}

// A pod's error about an answer leaves as the node's, about the packet that the
// remote sent; one that the host itself makes about it keeps the host's address.
func TestErrorsLeave(t *testing.T) {
	for _, f := range families {
		for what, kind := range errorsOf(f) {
			t.Run(fmt.Sprintf("v%d/%s", f, what), func(t *testing.T) {
				n := newUplink(t, nil)
				n.translated(f, n.b, protoUDP, 4000, 80)
				at := n.translated(f, n.a, protoUDP, 4000, 80)
				pod, far := n.a.at(f, 4000), n.far.at(f, 80)
				quoted := between(f, far, pod, protoUDP, udp(80, 4000, 1, 2, 3))
				n.passes(actOK, func() uint32 { return n.to(n.a, n.uplink, eth(n.a.mac, n.a.gw, etherType(f), quoted)) })
				check := func(v uint32, out []byte) {
					src, dst, l4 := n.seen(f, out)
					if v != asIs || src.Addr() != n.self.ip[f] || dst.Addr() != far.Addr() {
						t.Fatalf("verdict %d, from %s to %s", v, src, dst)
					}
					n.quotes(f, l4, far, at)
				}
				check(n.goesOut(n.a, f, about(f, pod, far, kind, quoted)))
				check(n.leaves(0, n.wire(f, about(f, n.self.at(f, 0), far, kind, quoted))))
			})
		}
	}
}

// Errors about nothing that is translated, or that cannot be read, pass as they are.
func TestErrorsOfOthers(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		n.translated(f, n.a, protoUDP, 4000, 80)
		kind := errorsOf(f)["port unreachable"]
		host, far := n.self.at(f, 4001), n.far.at(f, 80)
		short := between(f, n.self.at(f, 4000), far, protoUDP, udp(4000, 80))
		for what, quoted := range map[string][]byte{
			"another flow": between(f, host, far, protoUDP, udp(4001, 80)),
			"cut off":      short[:len(short)-4],
			"a later part": piece(f, n.self, n.far, protoUDP, 1, udp(4000, 80, make([]byte, 64)...), 24, 48),
		} {
			frame := n.wire(f, about(f, far, n.self.at(f, 0), kind, quoted))
			if v, out := n.comes(frame); v != asIs || !bytes.Equal(out, frame) {
				t.Errorf("IPv%d, %s: verdict %d, came as\n%x, want\n%x", f, what, v, out, frame)
			}
			n.untouched(what, 0, n.wire(f, about(f, n.self.at(f, 0), far, kind, quoted)))
		}
	}
}
