// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

const hostOnly = `
apiVersion: weftmesh.io/v1alpha1
kind: WeftNetworkPolicy
metadata: {name: host-only, namespace: demo}
spec:
  endpointSelector: {matchLabels: {app: victim}}
  ingress:
  - fromEntities: [host]
`

// lenient has the host route what it would refuse by itself: packets from
// elsewhere that bear its own address. IPv6 has no such switch; there the
// kernel's refusal stands.
func lenient(t *testing.T) {
	t.Helper()
	for _, file := range []string{"rp_filter", "accept_local"} {
		for _, device := range []string{"all", worldUplink().device} {
			value := map[string]string{"rp_filter": "0", "accept_local": "1"}[file]
			path := fmt.Sprintf("/proc/sys/net/ipv4/conf/%s/%s", device, file)
			old, err := os.ReadFile(path)
			ok(t, err)
			ok(t, os.WriteFile(path, []byte(value), 0))
			t.Cleanup(func() { _ = os.WriteFile(path, old, 0) })
		}
	}
}

func TestHostIsWhatTheHostSendsItself(t *testing.T) {
	w := startWatch(t)
	serve(t, w.victim, 8080)
	lenient(t)
	w.write("policy.yaml", hostOnly)
	onBoth(t, func(t *testing.T, family int) {
		to := addrs(w.victim)[family]
		for _, network := range []string{"tcp", "udp"} {
			reaches(t, sandbox.Host(), network, to, 8080)
			blocked(t, w.world, network, to, 8080)
			blocked(t, w.attacker.NS, network, to, 8080)
		}
	})
	for family := range 2 {
		host, victim := hostAddrs()[family], addrs(w.victim)[family]
		out := w.taps["world"]
		reason := agentv1.DropReason_DROP_REASON_POLICY_DEFAULT
		before := w.drops(reason)
		var signatures [][]byte
		for _, f := range [][]byte{
			udpTo(netip.AddrPortFrom(host, 5000), netip.AddrPortFrom(victim, 8080), "as if of the host"),
			tcpTo(netip.AddrPortFrom(host, 5000), netip.AddrPortFrom(victim, 8080), tcpSYN, 7, 0, ""),
		} {
			d := datagram{src: host, dst: victim, proto: []byte{protoUDP, protoTCP}[len(signatures)], body: f}
			frame := ether(uplinkMAC(t), out.MAC, d.etherType(), d.bytes())
			signatures = append(signatures, signature(frame))
			ok(t, out.Send(frame))
		}
		if err := w.counted(reason, before, 2); err != nil {
			t.Errorf("with the host's address from the world: %v", err)
		}
		for _, seen := range w.hostBeacon(signatures) {
			t.Errorf("with the host's address from the world: %s", seen)
		}
	}
}

// What the host translates is the world's, whatever address it then bears.
func TestTranslatedTrafficIsNotTheHosts(t *testing.T) {
	w := startWatch(t)
	serve(t, w.victim, 8080)
	w.write("policy.yaml", hostOnly)
	lenient(t)
	// A flow that the host opened does not open the way for a forged packet with
	// its ports either.
	conn, err := sandbox.Host().Dial("udp", hostPort(w.victim.IPv4, 8080), soon)
	ok(t, err)
	defer conn.Close()
	_, err = sandbox.AskOn(conn, "mine", answer)
	ok(t, err)
	from := netip.MustParseAddrPort(conn.LocalAddr().String())
	to := netip.AddrPortFrom(w.victim.IPv4, 8080)
	text := "into the host's flow"
	d := datagram{src: from.Addr(), dst: to.Addr(), proto: protoUDP, body: udpTo(from, to, text)}
	out := w.taps["world"]
	before := w.drops(agentv1.DropReason_DROP_REASON_POLICY_DEFAULT)
	ok(t, out.Send(ether(uplinkMAC(t), out.MAC, d.etherType(), d.bytes())))
	if err := w.counted(agentv1.DropReason_DROP_REASON_POLICY_DEFAULT, before, 1); err != nil {
		t.Error(err)
	}
	if got, err := sandbox.AskOn(conn, "still mine", answer); err != nil || !strings.HasSuffix(got, "still mine") {
		t.Errorf("the host's own flow: %q, %v", got, err)
	}
}

// hostBeacon is beacon where the victim hears the host only.
func (w *watch) hostBeacon(signatures [][]byte) []string {
	w.t.Helper()
	w.beacons++
	text := fmt.Appendf(nil, "beacon-%d.", w.beacons)
	c, err := sandbox.Host().Dial("udp", hostPort(w.victim.IPv4, beaconPort), soon)
	ok(w.t, err)
	defer c.Close()
	_, err = c.Write(text)
	ok(w.t, err)
	var seen []string
	_, err = w.taps["victim"].Receive(soon, func(f []byte) bool {
		if contains(f, signatures) {
			seen = append(seen, fmt.Sprintf("victim: %x", f))
		}
		return bytes.Contains(f, text)
	})
	ok(w.t, err)
	return seen
}

// A pod reaches of the host and its links what the policy lets it, and nothing by
// way of addresses that mean something on a link only.
func TestAddressesOfTheLinkLeadNowhere(t *testing.T) {
	w := startWatch(t)
	secret, err := sandbox.StartEcho(sandbox.Host(), "host", 8081)
	ok(t, err)
	t.Cleanup(secret.Close)
	link := hostSide(t, w.node, w.attacker)
	local, err := netlink.AddrList(link, netlink.FAMILY_V6)
	ok(t, err)
	targets := []netip.Addr{netip.MustParseAddr("fe80::1"), linkLocal(w.raw.MAC), netip.IPv6Loopback(),
		netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("127.1.2.3"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("169.254.169.254"),
		netip.MustParseAddr("240.0.0.1"), w.attacker.IPv4.Next().Next().Next().Next(), w.attacker.IPv6.Next().Next().Next().Next()}
	for _, a := range local {
		addr, _ := netip.AddrFromSlice(a.IP)
		targets = append(targets, addr)
	}
	for i, dst := range targets {
		src := addrs(w.attacker)[0]
		if !dst.Is4() {
			src = addrs(w.attacker)[1]
		}
		text := fmt.Sprintf("to the link %d", i)
		for _, port := range []uint16{beaconPort, 8081} {
			d := datagram{src: src, dst: dst, proto: protoUDP,
				body: udpTo(netip.AddrPortFrom(src, 4200), netip.AddrPortFrom(dst, port), text)}
			w.send(d)
		}
		for _, seen := range w.beacon([][]byte{[]byte(text)}) {
			t.Errorf("a datagram to %s came out at %s", dst, seen)
		}
	}
}

// With extra addresses and devices of its own, a pod is still only one endpoint.
func TestPodWithMoreAddressesAndDevices(t *testing.T) {
	w := startWatch(t)
	serve(t, w.victim, 8080)
	ok(t, w.attacker.NS.Do(func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, a := range []string{"10.9.9.9/32", "fd09::9/128"} {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(eth, addr); err != nil {
				return fmt.Errorf("adding %s: %w", a, err)
			}
		}
		for _, link := range []netlink.Link{
			&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "tagged", ParentIndex: eth.Attrs().Index}, VlanId: 7},
			&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "second", ParentIndex: eth.Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE},
			&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy"}},
		} {
			if err := netlink.LinkAdd(link); err != nil {
				w.t.Logf("%s is not made here: %v", link.Attrs().Name, err)
				continue
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return nil
	}))
	for i, src := range []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("fd09::9")} {
		reason := []agentv1.DropReason{agentv1.DropReason_DROP_REASON_SPOOFED_IPV4, agentv1.DropReason_DROP_REASON_SPOOFED_IPV6}[i]
		before := w.drops(reason)
		conn, err := dialFrom(w.attacker.NS, src, addrs(w.victim)[i], 8080)
		ok(t, err)
		if _, err := sandbox.AskOn(conn, "from an address of mine", silence); err == nil {
			t.Errorf("an address that the pod gave itself, %s, gets an answer", src)
		}
		ok(t, conn.Close())
		if err := w.counted(reason, before, 1); err != nil {
			t.Error(err)
		}
	}
	for name, reason := range map[string]agentv1.DropReason{
		"tagged": agentv1.DropReason_DROP_REASON_UNSUPPORTED_L3, "second": agentv1.DropReason_DROP_REASON_SPOOFED_MAC} {
		raw, err := sandbox.OpenRaw(w.attacker.NS, name)
		if err != nil {
			continue // the kernel has no such device, as was said above
		}
		before := w.drops(reason)
		d := w.plain(0, "from "+name)
		ok(t, raw.Send(ether(w.gateway, raw.MAC, d.etherType(), d.bytes())))
		raw.Close()
		if err := w.counted(reason, before, 1); err != nil {
			t.Errorf("device %s: %v", name, err)
		}
		for _, seen := range w.beacon([][]byte{[]byte("from " + name)}) {
			t.Errorf("device %s: %s", name, seen)
		}
	}
}
