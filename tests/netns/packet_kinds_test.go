// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// marks are each bit alone and some patterns.
func marks() []uint32 {
	out := []uint32{0xffffffff, 0x0f00, 0x0200, 0xaaaaaaaa, 0x55555555, 0xdeadbeef}
	for i := range 32 {
		out = append(out, 1<<i)
	}
	return out
}

// askMarked asks one question with a mark on the socket.
func askMarked(from *sandbox.NS, network string, to netip.Addr, port uint16, mark uint32) error {
	d := net.Dialer{Timeout: answer, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		}); e != nil {
			return e
		}
		return err
	}}
	d.SetMultipathTCP(false)
	var conn net.Conn
	if err := from.Do(func() (err error) { conn, err = d.Dial(network, hostPort(to, port)); return err }); err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	timeout := answer
	if port == 9090 {
		timeout = silence
	}
	_, err := sandbox.AskOn(conn, "hello", timeout)
	return err
}

// The host throws away whatever bears a mark where it would route it; a mark set
// in a pod must not get that far, nor change what policy says.
func TestMarkSetInAPodChangesNothing(t *testing.T) {
	n := startNode(t)
	client, server := n.pod("client"), n.pod("server", "app=server")
	serve(t, server, 8080)
	serve(t, server, 9090)
	echo, err := sandbox.StartEcho(n.world, "world", 8080)
	ok(t, err)
	t.Cleanup(echo.Close)
	n.write("policy.yaml", `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: server, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {name: client}}]
    toPorts: [{ports: [{port: "8080"}]}]
`)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		for bit := range 32 {
			rule := netlink.NewRule()
			mask := uint32(1) << bit
			rule.Family, rule.Mark, rule.Mask, rule.Priority, rule.Type = family, mask, &mask, 100+bit, unix.RTN_BLACKHOLE
			ok(t, netlink.RuleAdd(rule))
			t.Cleanup(func() { _ = netlink.RuleDel(rule) })
		}
	}
	onBoth(t, func(t *testing.T, family int) {
		for i, mark := range marks() {
			network := []string{"tcp", "udp"}[i%2]
			for _, to := range []netip.Addr{addrs(server)[family], worldAddrs()[family]} {
				if err := askMarked(client.NS, network, to, 8080, mark); err != nil {
					t.Errorf("mark %#x, %s to %s: %v", mark, network, to, err)
				}
			}
			if i < 6 && askMarked(client.NS, "udp", addrs(server)[family], 9090, mark) == nil {
				t.Errorf("mark %#x passes the policy", mark)
			}
		}
	})
}

func TestUnusualFramesGoNowhere(t *testing.T) {
	w := startWatch(t)
	own, v4, v6 := w.raw.MAC, w.plain(0, "unusual"), w.plain(1, "unusual")
	tagged := func(d datagram, tags ...byte) []byte {
		var body []byte
		for i, id := range tags {
			kind := d.etherType()
			if i+1 < len(tags) {
				kind = etherVLAN
			}
			body = append(body, 0, id, byte(kind>>8), byte(kind))
		}
		return ether(w.gateway, own, etherVLAN, append(body, d.bytes()...))
	}
	for name, f := range map[string][]byte{
		"VLAN 5, IPv4":       tagged(v4, 5),
		"VLAN 0, IPv4":       tagged(v4, 0),
		"VLAN 5, IPv6":       tagged(v6, 5),
		"two VLANs":          tagged(v4, 5, 6),
		"unknown type":       ether(w.gateway, own, 0x88b5, v4.bytes()),
		"MPLS":               ether(w.gateway, own, 0x8847, append([]byte{0, 1, 1, 64}, v4.bytes()...)),
		"PPPoE":              ether(w.gateway, own, 0x8864, v4.bytes()),
		"802.1ad":            ether(w.gateway, own, 0x88a8, append([]byte{0, 5, 8, 0}, v4.bytes()...)),
		"802.3 length field": ether(w.gateway, own, 60, v4.bytes()),
	} {
		w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_UNSUPPORTED_L3, frames: [][]byte{f}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_UNSUPPORTED_L3); err != nil {
		t.Error(err)
	}
}

func TestGroupsAreOutOfReach(t *testing.T) {
	w := startWatch(t)
	for _, group := range []string{"224.0.0.1", "224.0.0.251", "239.1.2.3", "255.255.255.255", "ff02::1", "ff02::fb", "ff05::1:3", "ff0e::1"} {
		dst := netip.MustParseAddr(group)
		src := addrs(w.attacker)[0]
		if !dst.Is4() {
			src = addrs(w.attacker)[1]
		}
		d := datagram{src: src, dst: dst, proto: protoUDP,
			body: udpTo(netip.AddrPortFrom(src, 4001), netip.AddrPortFrom(dst, beaconPort), "to the group "+group)}
		e := datagram{src: src, dst: dst, proto: icmpProto(src), body: echoRequest(src, dst, 7)}
		all := net.HardwareAddr{255, 255, 255, 255, 255, 255}
		w.run(attack{name: group, reason: agentv1.DropReason_DROP_REASON_MULTICAST, frames: [][]byte{
			w.frame(d), ether(all, w.raw.MAC, d.etherType(), d.bytes()), w.frame(e)}})
	}
	for family := range 2 { // the frame to all, the packet to one
		d := w.plain(family, "frame to all")
		w.run(attack{name: "frame to all", reason: agentv1.DropReason_DROP_REASON_MULTICAST, frames: [][]byte{
			ether(net.HardwareAddr{255, 255, 255, 255, 255, 255}, w.raw.MAC, d.etherType(), d.bytes()),
			ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, w.raw.MAC, d.etherType(), d.bytes())}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_MULTICAST); err != nil {
		t.Error(err)
	}
}

func TestForbiddenHeadersGoNowhere(t *testing.T) {
	w := startWatch(t)
	v6 := w.plain(1, "forbidden header")
	chain := func(kinds ...byte) datagram {
		d := v6
		d.proto, d.body = kinds[0], nil
		for i := range kinds {
			next := byte(protoUDP)
			if i+1 < len(kinds) {
				next = kinds[i+1]
			}
			d.body = append(d.body, extension(next)...)
		}
		d.body = append(d.body, v6.body...)
		return d
	}
	routing := func(kind, left byte) datagram {
		d := v6
		head := append([]byte{protoUDP, 2, kind, left, 0, 0, 0, 0}, worldAddrs()[1].AsSlice()...)
		d.proto, d.body = protoRouting, append(head, v6.body...)
		return d
	}
	for name, d := range map[string]datagram{
		"routing type 0":               routing(0, 1),
		"routing type 0, no hops left": routing(0, 0),
		"routing type 2, one hop left": routing(2, 1),
		"segment routing":              routing(4, 1),
		"hop-by-hop in the middle":     chain(protoDestOpts, protoHopByHop),
		"seven options":                chain(60, 60, 60, 60, 60, 60, 60),
		"two hop-by-hop":               chain(protoHopByHop, protoHopByHop),
	} {
		w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_EXT_HEADERS, frames: [][]byte{w.frame(d)}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_EXT_HEADERS); err != nil {
		t.Error(err)
	}
	bad := map[string]datagram{"IPv6 in the flesh cut short": v6, "IPv4 cut short": w.plain(0, "cut")}
	for name, d := range bad {
		whole := w.frame(d)
		w.run(attack{name: name, reason: agentv1.DropReason_DROP_REASON_MALFORMED, frames: [][]byte{whole[:len(whole)-4]}})
	}
	if err := w.shown(w.attacker, agentv1.DropReason_DROP_REASON_MALFORMED); err != nil {
		t.Error(err)
	}
}

// A source route of IPv4 is an option like any other to the policy, and nobody
// follows it: the packet comes out where its destination says, or nowhere.
func TestSourceRoutesAreNotFollowed(t *testing.T) {
	w := startWatch(t)
	for _, kind := range []byte{131, 137} { // loose, strict
		for _, hop := range w.targets(0) {
			for _, dst := range w.targets(0) {
				d := w.plain(0, "")
				text := fmt.Sprintf("source route %d to %s by %s", kind, dst, hop)
				d.dst, d.options = dst, append([]byte{kind, 7, 4}, append(hop.AsSlice(), 0)...)
				d.body = udpTo(netip.AddrPortFrom(d.src, 4002), netip.AddrPortFrom(dst, beaconPort), text)
				ok(t, w.raw.Send(w.frame(d)))
				for _, seen := range w.beacon([][]byte{[]byte(text)}) {
					if dst != w.victim.IPv4 || !strings.HasPrefix(seen, "victim: ") {
						t.Errorf("%s came out at %s", text, seen)
					}
				}
			}
		}
	}
}
