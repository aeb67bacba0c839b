// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	agentv1 "github.com/weftmesh/weft/pkg/api/agent/v1"
	"github.com/weftmesh/weft/tests/sandbox"
)

// The port that beacons go to, and nothing else of value.
const beaconPort = 7777

// watch is an attacker, a victim and eyes wherever the attacker's frames could
// come out: at the victim's device, beyond the host, and on a socket of the host.
type watch struct {
	*node
	attacker, victim *sandbox.Pod
	raw              *sandbox.Raw // the attacker's device
	gateway          net.HardwareAddr
	taps             map[string]*sandbox.Raw
	hostEar          net.PacketConn
	beacons          int
}

// startWatch has an attacker in a pod that may do what it likes in its own
// network namespace.
func startWatch(t *testing.T) *watch {
	t.Helper()
	n := startNode(t)
	w := &watch{node: n, attacker: n.pod("attacker"), victim: n.pod("victim", "app=victim"),
		taps: make(map[string]*sandbox.Raw)}
	w.raw = openRaw(t, w.attacker.NS, "eth0")
	w.taps["victim"] = openRaw(t, w.victim.NS, "eth0")
	w.taps["world"] = openRaw(t, n.world, "w0")
	w.gateway = hostSide(t, n, w.attacker).Attrs().HardwareAddr
	var err error
	w.hostEar, err = sandbox.Host().ListenPacket("udp", fmt.Sprintf(":%d", beaconPort))
	ok(t, err)
	t.Cleanup(func() { _ = w.hostEar.Close() })
	w.beacon(nil) // neighbours are known from here on
	return w
}

func openRaw(t *testing.T, ns *sandbox.NS, device string) *sandbox.Raw {
	t.Helper()
	r, err := sandbox.OpenRaw(ns, device)
	ok(t, err)
	t.Cleanup(r.Close)
	return r
}

// hostSide is the host's device of a pod.
func hostSide(t *testing.T, n *node, p *sandbox.Pod) netlink.Link {
	t.Helper()
	list, err := n.agent.API().ListEndpoints(n.ctx, &agentv1.ListEndpointsRequest{})
	ok(t, err)
	for _, e := range list.GetEndpoints() {
		if e.GetPod() == p.Name {
			l, err := netlink.LinkByName(e.GetDevice())
			ok(t, err)
			return l
		}
	}
	t.Fatalf("no endpoint of pod %s", p.Name)
	return nil
}

// send puts an IP packet of the attacker on its device.
func (w *watch) send(d datagram) {
	w.t.Helper()
	ok(w.t, w.raw.Send(w.frame(d)))
}

// frame is an IP packet as the attacker's own stack would frame it.
func (w *watch) frame(d datagram) []byte {
	return ether(w.gateway, w.raw.MAC, d.etherType(), d.bytes())
}

// beacon sends datagrams that must arrive everywhere, and names the places where
// something with one of the signatures came out before them.
func (w *watch) beacon(signatures [][]byte) []string {
	w.t.Helper()
	w.beacons++
	text := fmt.Appendf(nil, "beacon-%d.", w.beacons)
	for _, to := range []netip.Addr{w.victim.IPv4, hostAddrs()[0], worldAddrs()[0]} {
		c, err := w.attacker.NS.Dial("udp", hostPort(to, beaconPort), soon)
		ok(w.t, err)
		_, err = c.Write(text)
		ok(w.t, errors.Join(err, c.Close()))
	}
	var seen []string
	for name, tap := range w.taps {
		if _, err := tap.Receive(soon, func(f []byte) bool {
			if contains(f, signatures) {
				seen = append(seen, fmt.Sprintf("%s: %x", name, f))
			}
			return bytes.Contains(f, text)
		}); err != nil {
			w.t.Fatalf("no beacon at %s: %v", name, err)
		}
	}
	buf := make([]byte, 64<<10)
	for {
		ok(w.t, w.hostEar.SetReadDeadline(deadline(soon)))
		n, from, err := w.hostEar.ReadFrom(buf)
		ok(w.t, err)
		if bytes.Equal(buf[:n], text) {
			return seen
		}
		seen = append(seen, fmt.Sprintf("host: %q from %v", buf[:n], from))
	}
}

func contains(frame []byte, signatures [][]byte) bool {
	for _, s := range signatures {
		if bytes.Contains(frame, s) {
			return true
		}
	}
	return false
}

// drops are the packets dropped for a reason in either direction.
func (n *node) drops(reason agentv1.DropReason) uint64 {
	n.t.Helper()
	var sum uint64
	for _, d := range n.status().GetDrops() {
		if "DROP_REASON_"+d.GetReason() == reason.String() {
			sum += d.GetPackets()
		}
	}
	return sum
}

// counted waits until so many packets more were dropped for the reason.
func (n *node) counted(reason agentv1.DropReason, before, more uint64) error {
	return sandbox.Eventually(n.ctx, soon, fmt.Sprintf("%d drops of %v", more, reason), func() error {
		if now := n.drops(reason); now < before+more {
			return fmt.Errorf("%d are counted", now-before)
		}
		return nil
	})
}

// flows are the flows stored.
func (n *node) flows() []*agentv1.Flow {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, soon)
	defer cancel()
	s, err := n.agent.API().ObserveFlows(ctx, &agentv1.ObserveFlowsRequest{})
	ok(n.t, err)
	var out []*agentv1.Flow
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		ok(n.t, err)
		if f := m.GetFlow(); f != nil {
			out = append(out, f)
		}
	}
}

// shown waits for a flow that the pod sent and that was dropped for the reason.
func (n *node) shown(p *sandbox.Pod, reason agentv1.DropReason) error {
	return sandbox.Eventually(n.ctx, soon, fmt.Sprintf("a flow of %s with %v", p.Name, reason), func() error {
		for _, f := range n.flows() {
			if f.GetDropReason() == reason && f.GetSource().GetPod() == p.Name {
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
}

// uplinkMAC is that of the host's end of its wire to the world.
func uplinkMAC(t *testing.T) net.HardwareAddr {
	t.Helper()
	up, err := netlink.LinkByName(worldUplink().device)
	ok(t, err)
	return up.Attrs().HardwareAddr
}

// dialFrom opens a UDP socket with a source address of choice.
func dialFrom(ns *sandbox.NS, src, dst netip.Addr, port uint16) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: src.AsSlice()}}
	var conn net.Conn
	err := ns.Do(func() (err error) { conn, err = d.Dial("udp", hostPort(dst, port)); return err })
	return conn, err
}
