// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// fourPorts leaves a range of four ports.
func fourPorts(cfg *weftbpf.BpfWeftConfig) { cfg.SnatFirst, cfg.SnatLast = 40000, 40003 }

// first sends the first packet of a pod's flow and gives the uplink's verdict.
func (n *node) first(f int, pod *host, proto uint8, sport, dport uint16) uint32 {
	n.Helper()
	v, _ := n.goesOut(pod, f, between(f, pod.at(f, sport), n.far.at(f, dport), proto, message(f, proto, sport, dport, false)))
	return v
}

// When the ports towards one remote are gone, that is told; other remotes are not
// concerned, and a flow that ends gives its port to the next.
func TestPortsRunOut(t *testing.T) {
	for _, f := range families {
		for _, proto := range protocols(f) {
			t.Run(fmt.Sprintf("v%d/%d", f, proto), func(t *testing.T) {
				n := newUplink(t, fourPorts)
				for port := uint16(40000); port <= 40003; port++ {
					if at := n.translated(f, n.a, proto, port, 80); proto != protoICMP && proto != protoICMPv6 && at.Port() != port {
						t.Errorf("port %d became %d", port, at.Port())
					}
				}
				if proto == protoICMP || proto == protoICMPv6 {
					return // an identifier stands for both ports: each is another remote
				}
				n.drain()
				n.dropped(snatPorts, egress, func() uint32 {
					v, _ := n.leaves(n.b.ifindex, n.wire(f, between(f, n.b.at(f, 40000), n.far.at(f, 80), proto, message(f, proto, 40000, 80, false))))
					return v
				})
				e := n.event()
				if e.Reason != uint8(snatPorts) || e.Slot[0] != n.b.slot || e.Identity[0] != n.b.identity ||
					e.Identity[1] == 0 || e.Addr[0] != addr16(n.b.ip[f]) || e.Addr[1] != addr16(n.far.ip[f]) {
					t.Errorf("the event is %+v", e)
				}
				if v := n.first(f, n.b, proto, 40000, 81); v != asIs {
					t.Errorf("towards another port: verdict %d", v)
				}
				if v := n.first(f, n.b, proto, 39999, 80); v != asIs {
					t.Errorf("with a port of its own: verdict %d", v)
				}
				n.change(f, n.a, n.far, 40002, 80, proto, func(ct *weftbpf.BpfWeftCt) { ct.Seen -= 1e6 })
				n.gc()
				if at := n.translated(f, n.b, proto, 40000, 80); at.Port() != 40002 {
					t.Errorf("after the end of a flow, port %d", at.Port())
				}
			})
		}
	}
}

// The host's own flow that finds no port is told, too, rather than misled.
func TestHostFindsNoPort(t *testing.T) {
	n := newUplink(t, fourPorts)
	for _, f := range families {
		for port := uint16(40000); port <= 40003; port++ {
			n.translated(f, n.a, protoUDP, port, 80)
		}
		n.dropped(snatPorts, egress, func() uint32 {
			v, _ := n.leaves(0, n.wire(f, between(f, n.self.at(f, 40000), n.far.at(f, 80), protoUDP, udp(40000, 80))))
			return v
		})
	}
}

// A port on which a socket of the host's own hears is not given away; nor is a
// privileged one.
func TestPortsOfTheHost(t *testing.T) {
	n := newUplink(t, nil)
	ln, err := net.Listen("tcp", ":4100")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pc, err := net.ListenPacket("udp", ":4100")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, f := range families {
		for _, proto := range []uint8{protoTCP, protoUDP} {
			for sport, kept := range map[uint16]bool{4100: false, 4101: true, 0: false, 53: false, 1023: false, 1024: true} {
				at := n.translated(f, n.a, proto, sport, 80)
				if kept != (at.Port() == sport) || !kept && at.Port() < 32768 {
					t.Errorf("IPv%d, protocol %d: port %d became %d", f, proto, sport, at.Port())
				}
			}
		}
	}
}

// Without room for a flow its packets are refused, and nothing of it stays: also
// where one of its two keys still found room.
func TestNoRoomForTranslations(t *testing.T) {
	for _, f := range families {
		for _, used := range []uint16{natEntries, natEntries - 1} {
			n := newUplink(t, nil)
			for i := range used {
				n.put(n.natTable(f), natKey(f, natFwd, n.b.at(f, i), n.far.at(f, 2*i), protoUDP), weftbpf.BpfWeftNat{})
			}
			n.dropped(natFull, egress, func() uint32 {
				v, _ := n.leaves(n.a.ifindex, n.wire(f, between(f, n.a.at(f, 4000), n.far.at(f, 80), protoUDP, udp(4000, 80))))
				return v
			})
			n.keys("at the end", f, int(used))
		}
	}
}

// What cannot take another port keeps its own or is refused.
func TestProtocolsWithoutPorts(t *testing.T) {
	const gre, dccp, udplite = 47, 33, 136
	for _, f := range families {
		n := newUplink(t, nil)
		body := append(sctp(6000, 36), make([]byte, 16)...)
		for _, proto := range []uint8{protoSCTP, gre} {
			packet := between(f, n.a.at(f, 0), n.far.at(f, 0), proto, body)
			v, out := n.goesOut(n.a, f, packet)
			src, _, l4 := n.seen(f, out)
			if v != asIs || src.Addr() != n.self.ip[f] || !bytes.Equal(l4, body) {
				t.Errorf("IPv%d, protocol %d: verdict %d, left from %s with\n%x", f, proto, v, src, l4)
			}
			_, out = n.comes(n.wire(f, between(f, n.far.at(f, 0), n.self.at(f, 0), proto, append(sctp(36, 6000), body[16:]...))))
			if _, dst, _ := n.seen(f, out); dst.Addr() != n.a.ip[f] {
				t.Errorf("IPv%d, protocol %d: the answer goes to %s", f, proto, dst)
			}
			n.dropped(snatPorts, egress, func() uint32 {
				v, _ := n.leaves(n.b.ifindex, n.wire(f, between(f, n.b.at(f, 0), n.far.at(f, 0), proto, body)))
				return v
			})
		}
		for _, proto := range []uint8{dccp, udplite} {
			n.dropped(unsupportedL4, egress, func() uint32 {
				v, _ := n.leaves(n.a.ifindex, n.wire(f, between(f, n.a.at(f, 0), n.far.at(f, 0), proto, body)))
				return v
			})
		}
	}
}

// What cannot take another port is the host's before it is a pod's: no pod gets
// the packets of the host's tunnels and associations, nor stops them.
func TestHostComesBeforePods(t *testing.T) {
	const gre, esp = 47, 50
	for _, f := range families {
		n := newUplink(t, nil)
		// Its own packets, and what it has sealed of another device's.
		for proto, from := range map[uint8]uint32{protoSCTP: 0, gre: 0, esp: 77} {
			body := append(sctp(6000, 36), make([]byte, 16)...)
			own := n.wire(f, between(f, n.self.at(f, 0), n.far.at(f, 0), proto, body))
			pods := between(f, n.a.at(f, 0), n.far.at(f, 0), proto, body)
			answer := n.wire(f, between(f, n.far.at(f, 0), n.self.at(f, 0), proto, append(sctp(36, 6000), body[16:]...)))
			if v, _ := n.goesOut(n.a, f, pods); v != asIs {
				t.Fatalf("IPv%d, protocol %d: the pod's packet has verdict %d", f, proto, v)
			}
			for range 2 {
				n.untouched("the host's own", from, own)
				if v, out := n.comes(answer); v != asIs || !bytes.Equal(out, answer) {
					t.Errorf("IPv%d, protocol %d: the host's answer has verdict %d and came as\n%x", f, proto, v, out)
				}
				n.dropped(snatPorts, egress, func() uint32 {
					v, _ := n.leaves(n.a.ifindex, n.wire(f, pods))
					return v
				})
			}
		}
		n.keys("of the host's own", f, 6)
	}
}

// The host's own goes on when no room is left to keep its place.
func TestHostGoesOnWithoutRoom(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		for i := range uint16(natEntries) {
			n.put(n.natTable(f), natKey(f, natFwd, n.b.at(f, i), n.far.at(f, i), protoUDP), weftbpf.BpfWeftNat{})
		}
		n.untouched("the host's own", 0, n.wire(f, between(f, n.self.at(f, 0), n.far.at(f, 0), protoSCTP, sctp(6000, 36))))
	}
}

// The host's answers to whoever calls it from many ports fill no table.
func TestHostsAssociationsHoldNoPlace(t *testing.T) {
	for _, f := range families {
		n := newUplink(t, nil)
		for port := range uint16(natEntries) {
			n.untouched("an association of the host's", 0, n.wire(f, between(f, n.self.at(f, 0), n.far.at(f, 0), protoSCTP, sctp(36, 5000+port))))
		}
		n.keys("of nobody", f, 0)
	}
}
