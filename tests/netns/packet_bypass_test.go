// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

const byDefault = agentv1.DropReason_DROP_REASON_POLICY_DEFAULT

// onePort lets the victim be reached at the beacons' port only.
const onePort = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: one-port, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: victim}}
  ingress:
  - fromEntities: [all]
    toPorts: [{ports: [{port: "7777"}]}]
`

// segment is a TCP segment of the attacker to the victim.
func (w *watch) segment(family int, sport, dport uint16, flags byte) []byte {
	src, dst := addrs(w.attacker)[family], addrs(w.victim)[family]
	return w.frame(datagram{src: src, dst: dst, proto: protoTCP, body: tcpTo(
		netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), flags, 1000, 2000, "")})
}

func (w *watch) message(family int, sport, dport uint16, text string) []byte {
	src, dst := addrs(w.attacker)[family], addrs(w.victim)[family]
	return w.frame(datagram{src: src, dst: dst, proto: protoUDP, body: udpTo(
		netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), text)})
}

// No flags make a packet of no flow pass where its first one would not.
func TestForgedStateOpensNothing(t *testing.T) {
	w := startWatch(t)
	w.write("policy.yaml", onePort)
	for family := range 2 {
		a := attack{name: fmt.Sprintf("TCP flags, family %d", family), reason: byDefault}
		for flags := range byte(64) {
			// From the port that answers would come from, to one that asks.
			a.frames = append(a.frames, w.segment(family, beaconPort, 30000+uint16(flags), flags))
		}
		w.run(a)
		// A flow to the open port, then its ports the other way round and others.
		w.run(attack{name: "turned round", reason: byDefault, frames: [][]byte{
			w.message(family, beaconPort, 4300, "turned"), w.message(family, 4300, 9090, "elsewhere"),
			w.message(family, beaconPort, 53, "as an answer"), w.segment(family, 4300, 9090, tcpSYN),
			w.segment(family, 4300, 9090, tcpFIN|tcpACK), w.segment(family, 4300, 9090, tcpRST)}})
		src, dst := addrs(w.attacker)[family], addrs(w.victim)[family]
		reply := byte(0)
		if family == 1 {
			reply = 129
		}
		w.run(attack{name: "echo reply unasked", reason: byDefault, frames: [][]byte{w.frame(datagram{src: src, dst: dst,
			proto: icmpProto(src), body: icmpOf(src, dst, reply, 0, 0x12340001, []byte("unasked answer"))})}})
		// Protocols without ports are policy's as well.
		for _, proto := range []byte{47, 50, 4, 41, 132, 99} {
			body := append(binary.BigEndian.AppendUint64(nil, 0x1f911f9100000000), make([]byte, 32)...)
			reason := byDefault
			w.run(attack{name: fmt.Sprintf("protocol %d", proto), reason: reason, frames: [][]byte{
				w.frame(datagram{src: src, dst: dst, proto: proto, body: body})}})
		}
	}
	if err := w.shown(w.attacker, byDefault); err != nil {
		t.Error(err)
	}
}

// The victim asks the attacker: exactly the answers of that flow come in, and
// when the flow is closed, a new one in its place does not.
func TestAnsweringGivesNoMoreThanTheAnswer(t *testing.T) {
	w := startWatch(t)
	w.write("policy.yaml", onePort)
	server := serve(t, w.attacker, 6000)
	onBoth(t, func(t *testing.T, family int) {
		for _, network := range []string{"udp", "tcp"} {
			conn, err := w.victim.NS.Dial(network, hostPort(addrs(w.attacker)[family], 6000), soon)
			ok(t, err)
			if _, err := sandbox.AskOn(conn, "hello", answer); err != nil {
				t.Fatalf("%s: the victim gets no answer: %v", network, err)
			}
			port := netip.MustParseAddrPort(conn.LocalAddr().String()).Port()
			a := attack{name: network + " beside the answer", reason: byDefault, frames: [][]byte{
				w.message(family, 6000, port+1, "next port"), w.message(family, 6001, port, "from the next port")}}
			if network == "tcp" {
				a.frames = append(a.frames, w.message(family, 6000, port, "other protocol"), w.segment(family, 6000, port, tcpSYN))
			} else {
				a.frames = append(a.frames, w.segment(family, 6000, port, tcpACK))
			}
			w.run(a)
			if _, err := sandbox.AskOn(conn, "and still", answer); err != nil {
				t.Errorf("%s: the victim's flow does not go on: %v", network, err)
			}
			ok(t, conn.Close())
			if network == "tcp" {
				w.run(attack{name: "SYN after the end", reason: byDefault, frames: [][]byte{w.segment(family, 6000, port, tcpSYN)}})
			}
		}
	})
	server.Close()
}

// Fragments that reach into the header, that overlap, or that bear the number of
// a datagram that was let pass.
func TestFragmentTricks(t *testing.T) {
	w := startWatch(t)
	w.write("policy.yaml", onePort)
	for family := range 2 {
		src, dst := addrs(w.attacker)[family], addrs(w.victim)[family]
		bit := func(proto byte, id uint16, offset uint16, more bool, body []byte) []byte {
			d := datagram{src: src, dst: dst, proto: proto, id: id, frag: offset / 8, body: body}
			if more {
				d.frag |= 0x2000
			}
			if family == 1 {
				d.body, d.proto, d.frag = append(fragment6(proto, offset, more, uint32(id)), body...), protoFragment, 0
			}
			return w.frame(d)
		}
		port := func(p uint16) netip.AddrPort { return netip.AddrPortFrom(dst, p) }
		own := netip.AddrPortFrom(src, 4400)
		syn := append(tcpTo(own, port(beaconPort), tcpSYN, 1, 0, ""), "behind the header"...)
		malformed := agentv1.DropReason_DROP_REASON_MALFORMED
		good := udpTo(own, port(beaconPort), "fragment of an open port, ....")
		bad := udpTo(own, port(9090), "fragment of a closed port, ...")
		w.run(attack{name: "tiny first fragment of TCP", reason: malformed, frames: [][]byte{bit(protoTCP, 1, 0, true, syn[:8]), bit(protoTCP, 1, 0, true, syn[:16])}})
		w.run(attack{name: "fragment into the TCP header", reason: malformed, frames: [][]byte{bit(protoTCP, 2, 8, true, syn[8:]), bit(protoTCP, 2, 16, false, syn[16:])}})
		lone := bit(protoUDP, 3, 16, false, []byte("a later one alone"))
		w.run(attack{name: "later fragment alone", reason: agentv1.DropReason_DROP_REASON_FRAGMENT, frames: [][]byte{lone}})
		// The first of an open port passes; a second first, of a closed one, does not.
		ok(t, w.raw.Send(bit(protoUDP, 4, 0, true, good[:32])))
		w.run(attack{name: "first fragment once more, closed port", reason: byDefault, frames: [][]byte{bit(protoUDP, 4, 0, true, bad[:32])}})
		// Another datagram's number with another protocol is another datagram.
		w.run(attack{name: "number of a datagram of another protocol", reason: agentv1.DropReason_DROP_REASON_FRAGMENT,
			frames: [][]byte{bit(protoTCP, 4, 32, false, []byte("with another protocol"))}})
		if family == 1 {
			whole := bit(protoUDP, 5, 0, false, bad)
			w.run(attack{name: "whole datagram with a fragment header", reason: byDefault, frames: [][]byte{whole}})
			hidden := append(fragment6(protoDestOpts, 0, true, 6), append(extension(protoUDP), bad...)...)
			w.run(attack{name: "options inside a fragment", reason: agentv1.DropReason_DROP_REASON_EXT_HEADERS,
				frames: [][]byte{w.frame(datagram{src: src, dst: dst, proto: protoFragment, body: hidden})}})
		}
	}
}

const onlyTheWorld = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: only-the-world, namespace: demo}
spec:
  endpointSelector: {matchLabels: {name: attacker}}
  egress:
  - toEntities: [world]
`

// None of the addresses that the host answers to is the world's: not those of a
// whole subnet either, nor one that it got while running.
func TestTheHostIsNoPartOfTheWorld(t *testing.T) {
	w := startWatch(t)
	w.write("policy.yaml", onlyTheWorld)
	up, err := netlink.LinkByName(worldUplink().device)
	ok(t, err)
	later, err := netlink.ParseAddr("198.51.100.7/24")
	ok(t, err)
	before := w.status().GetDesiredRevision()
	ok(t, netlink.AddrAdd(up, later))
	w.moved(before, "after the host got an address")
	for i, to := range []string{hostV4, hostV6, "198.51.100.7", "198.51.100.255", "192.0.2.255", "2001:db8::", "fe80::", "169.254.1.1", "fe80::1"} {
		dst := netip.MustParseAddr(to)
		src := addrs(w.attacker)[0]
		if !dst.Is4() {
			src = addrs(w.attacker)[1]
		}
		text := fmt.Sprintf("to the host by %d", i)
		w.send(datagram{src: src, dst: dst, proto: protoUDP,
			body: udpTo(netip.AddrPortFrom(src, 4500), netip.AddrPortFrom(dst, beaconPort), text)})
		// A datagram to the world, and then one that the host sends itself.
		w.arrives(worldward(w, fmt.Sprintf("worldward %d.", i)), "world", fmt.Sprintf("worldward %d.", i))
		for _, seen := range w.hostHears() {
			t.Errorf("by way of %s: %s", to, seen)
		}
	}
}

func worldward(w *watch, text string) datagram {
	src, dst := w.attacker.IPv4, worldAddrs()[0]
	return datagram{src: src, dst: dst, proto: protoUDP, body: udpTo(
		netip.AddrPortFrom(src, 4501), netip.AddrPortFrom(dst, beaconPort), text)}
}

// hostHears is what came to the host's socket before a datagram of the host's own.
func (w *watch) hostHears() []string {
	w.t.Helper()
	w.beacons++
	text := fmt.Sprintf("own-%d.", w.beacons)
	c, err := sandbox.Host().Dial("udp", hostPort(netip.IPv6Loopback(), beaconPort), soon)
	ok(w.t, err)
	defer c.Close()
	_, err = c.Write([]byte(text))
	ok(w.t, err)
	var seen []string
	buf := make([]byte, 2048)
	for {
		ok(w.t, w.hostEar.SetReadDeadline(deadline(soon)))
		n, from, err := w.hostEar.ReadFrom(buf)
		ok(w.t, err)
		if string(buf[:n]) == text {
			return seen
		}
		seen = append(seen, fmt.Sprintf("%q from %v", buf[:n], from))
	}
}

// Discovery is the link's own business: it must not be a way past the policy for
// messages that the host would route.
func TestDiscoveryDoesNotTravel(t *testing.T) {
	w := startWatch(t)
	src, own := w.attacker.IPv6, w.raw.MAC
	w.write("policy.yaml", strings.Replace(onlyTheWorld, "toEntities: [world]", "toEntities: [host]", 1))
	for name, dst := range map[string]netip.Addr{"world": worldAddrs()[1], "victim": w.victim.IPv6, "far": netip.MustParseAddr("2001:db8:9::9")} {
		for what, d := range map[string]datagram{
			"solicitation":  neighbour(src, dst, 135, 0, dst.AsSlice(), 1, own),
			"advertisement": neighbour(src, dst, 136, 1<<30, src.AsSlice(), 2, own),
			"router wanted": neighbour(src, dst, 133, 0, nil, 1, own),
		} {
			frame := w.frame(d)
			before := w.drops(agentv1.DropReason_DROP_REASON_SPOOFED_ND)
			ok(t, w.raw.Send(frame))
			if err := w.counted(agentv1.DropReason_DROP_REASON_SPOOFED_ND, before, 1); err != nil {
				t.Errorf("%s to %s: %v", what, name, err)
			}
			for tap, at := range w.taps {
				w.hostSends(map[string]netip.Addr{"victim": w.victim.IPv6, "world": worldAddrs()[1]}[tap], at, frame, what)
			}
		}
	}
}

// hostSends has the host send a datagram past a tap, and fails if the frame came
// out there before.
func (w *watch) hostSends(to netip.Addr, tap *sandbox.Raw, frame []byte, what string) {
	w.t.Helper()
	w.beacons++
	text := fmt.Sprintf("of the host, %d.", w.beacons)
	c, err := sandbox.Host().Dial("udp", hostPort(to, beaconPort), soon)
	ok(w.t, err)
	defer c.Close()
	_, err = c.Write([]byte(text))
	ok(w.t, err)
	_, err = tap.Receive(soon, func(f []byte) bool {
		if bytes.Contains(f, signature(frame)) {
			w.t.Errorf("%s came out: %x", what, f)
		}
		return bytes.Contains(f, []byte(text))
	})
	ok(w.t, err)
}
