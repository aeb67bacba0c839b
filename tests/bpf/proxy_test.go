// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftmesh/weft/pkg/cgroup"
	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

const (
	markProxy  = 0x200
	markPassed = 0x800

	flagUpstream = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_UPSTREAM)
	flagRefused  = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_REFUSED)
	flagClosing  = uint8(weftbpf.BpfWeftCtFlagWEFT_CT_CLOSING)
)

// proxied is a node whose pod b lets everybody in at port 80, by ruleset 1, for which
// the proxy listens.
func proxied(t testing.TB) *node {
	t.Helper()
	n := newNode(t)
	n.listen(1)
	n.asks(n.b, ingress, 1)
	return n
}

// asks lets everybody talk to port 80 in a direction by a ruleset, all else freely.
func (n *node) asks(h *host, dir uint8, ruleset uint16) {
	n.Helper()
	n.policy(h, entry{dir: dir, proto: protoTCP, port: 80, bits: 16, action: allow, precedence: 1, ruleset: ruleset},
		entry{dir: egress, action: allow, precedence: 1}, entry{dir: ingress, action: allow, precedence: 1})
}

// listen makes a socket for each family that listens for the ruleset.
func (n *node) listen(ruleset uint16) {
	n.Helper()
	// A group that is nobody's: the root has no level.
	n.put(n.objs.WeftL7, uint32(0), weftbpf.BpfWeftL7Row{Cgroup: [2]uint64{1}, Active: 1})
	for family, addr := range map[uint8]string{4: "0.0.0.0:0", 6: "[::]:0"} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(context.Background(), fmt.Sprintf("tcp%d", family), addr)
		if err != nil {
			n.Fatal(err)
		}
		n.Cleanup(func() { ln.Close() })
		raw, err := ln.(*net.TCPListener).SyscallConn()
		if err != nil {
			n.Fatal(err)
		}
		key := weftbpf.BpfWeftProxyKey{Family: family, Ruleset: ruleset}
		if err := raw.Control(func(fd uintptr) { n.put(n.objs.WeftProxy, key, uint64(fd)) }); err != nil {
			n.Fatal(err)
		}
	}
}

// asProxy makes this process the proxy: packets of its own are in its group.
func (n *node) asProxy() {
	n.Helper()
	n.asProxyOf(0)
}

// asProxyOf makes it that of a block.
func (n *node) asProxyOf(block int) {
	n.Helper()
	mount, err := cgroup.FindMount()
	if err != nil {
		n.Fatal(err)
	}
	was, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		n.Fatal(err)
	}
	dir, err := os.MkdirTemp(mount, "weft-bpf-")
	if err != nil {
		n.Fatal(err)
	}
	home := filepath.Join(mount, unifiedPath(string(was)))
	n.Cleanup(func() {
		n.enter(home)
		if err := os.Remove(dir); err != nil {
			n.Error(err)
		}
	})
	n.enter(dir)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		n.Fatal(err)
	}
	row := weftbpf.BpfWeftL7Row{Cgroup: [2]uint64{1, 1}, Active: 1}
	row.Cgroup[block] = st.Ino
	n.put(n.objs.WeftL7, uint32(0), row)
}

func (n *node) enter(group string) {
	n.Helper()
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		n.Fatal(err)
	}
}

// toMarked is a packet of a socket of the host's own with a mark: verdict and mark.
func (n *node) toMarked(h *host, in, mark uint32, frame []byte) (verdict, out uint32, answer []byte) {
	n.Helper()
	v, answer, ctx := n.run(n.objs.WeftToPod, skb{Ifindex: h.ifindex, IngressIfindex: in, Mark: mark}, frame)
	return v, ctx.Mark, answer
}

func (n *node) fromMarked(h *host, frame []byte) (verdict, out uint32) {
	n.Helper()
	v, _, ctx := n.run(n.objs.WeftFromPod, skb{Ifindex: h.ifindex, Mark: markPassed | 1<<16}, frame)
	return v, ctx.Mark
}

// up asserts that a packet goes to the proxy: from a pod by its mark alone, on its way
// into a pod by the loopback device.
func (n *node) up(what string, verdict, mark, want uint32) {
	n.Helper()
	if verdict != want || mark != markProxy {
		n.Errorf("%s: verdict %d, mark %#x; want %d, %#x", what, verdict, mark, want, markProxy)
	}
}

// leg asserts what conntrack has of a flow; what the proxy opened lies beside others.
func (n *node) leg(f int, src, dst *host, sport uint16, ruleset, passed uint16, flags uint8) {
	n.Helper()
	ct, _ := n.flow(f, src, dst, sport, 80, protoTCP)
	if passed != 0 {
		ct = n.beside(f, src, dst, sport, 80)
	}
	if ct == nil || ct.Ruleset != ruleset || ct.Passed != passed || ct.Flags&flagUpstream != flags {
		n.Errorf("the flow is %+v; want ruleset %d, passed %d, flags %#x", ct, ruleset, passed, flags)
	}
}

// told asserts that a packet is dropped for the reason, and its sender gets a reset.
func (n *node) told(f int, reason weftbpf.BpfWeftReason, do func() (uint32, []byte)) {
	n.Helper()
	before := n.total(reason)
	v, frame := do()
	if got := n.total(reason) - before; v != actRedirect || got != 1 {
		n.Errorf("verdict %d, counted %d times for reason %d", v, got, reason)
	}
	head := map[int]int{4: 20, 6: 40}[f]
	if len(frame) < 14+head+20 || frame[14+head+13]&rst == 0 {
		n.Errorf("the answer is no reset: %x", frame)
	}
}

func (n *node) total(reason weftbpf.BpfWeftReason) uint64 {
	n.Helper()
	in, _ := n.counter(reason, ingress)
	out, _ := n.counter(reason, egress)
	return in + out
}

func TestDownstreamLegsGoToTheProxy(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.up("a SYN", v, mark, actOK)
		n.leg(f, n.a, n.b, 4000, 1, 0, 0)
		v, mark, _ = n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, syn|ack)))
		if v != actOK || mark != 0 {
			t.Errorf("the proxy's answer: verdict %d, mark %#x", v, mark)
		}
		v, mark = n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, ack)))
		n.up("an established packet", v, mark, actOK)
		v, mark = n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, ack)))
		n.up("what the server forges", v, mark, actOK)
		v, mark, _ = n.toMarked(n.b, n.uplink, 0, got(f, n.far, n.b, protoTCP, tcp(4000, 80, syn)))
		n.up("a SYN from the world", v, mark, actRedirect)
		v, mark, _ = n.toMarked(n.b, 0, 0, got(f, n.self, n.b, protoTCP, tcp(4000, 80, syn)))
		n.up("a SYN of the host's", v, mark, actRedirect)
		v, mark, _ = n.toMarked(n.b, 0, 0, got(f, n.self, n.b, protoTCP, tcp(4000, 80, ack)))
		n.up("the host's acknowledgement", v, mark, actRedirect)
		if _, answered := n.flow(f, n.self, n.b, 4000, 80, protoTCP); !answered {
			t.Error("the host's flow counts as unanswered")
		}
	}
}

func TestOnlyAProxysGroupHasPassed(t *testing.T) {
	for i, f := range append(families, families...) {
		n := proxied(t)
		frame := func(port uint16) []byte { return got(f, n.a, n.b, protoTCP, tcp(port, 80, syn)) }
		v, mark, _ := n.toMarked(n.b, 0, markPassed|1<<16, frame(5000))
		n.up("another's mark", v, mark, actRedirect)
		n.asProxyOf(i / len(families))
		for in, mark := range map[uint32]uint32{0: 1 << 16, n.uplink: markPassed | 1<<16} {
			n.toMarked(n.b, in, mark, frame(5001))
			if ct, _ := n.flow(f, n.a, n.b, 5001, 80, protoTCP); ct != nil && ct.Passed != 0 {
				t.Errorf("believed by mark %#x from device %d", mark, in)
			}
		}
		v, mark, _ = n.toMarked(n.b, 0, markPassed|1<<16, frame(5002))
		if v != actOK {
			t.Errorf("the proxy's SYN: verdict %d, mark %#x", v, mark)
		}
		n.leg(f, n.a, n.b, 5002, 1, 1, flagUpstream)
		v, mark = n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 5002, syn|ack)))
		n.up("the server's answer", v, mark, actOK)
		v, mark = n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(5002, 80, ack)))
		n.up("what the client forges", v, mark, actOK)
	}
}

func TestStagesArePassedInOrder(t *testing.T) {
	for _, tc := range []struct {
		passed, ruleset, then uint16
		flags                 uint8
	}{
		{0, 3, 0, 0}, {3, 4, 3, 0}, {4, 4, 4, flagUpstream}, {9, 3, 9, 0},
		{5, 4, 5, 0}, {6, 6, 6, flagUpstream}, {7, 7, 7, flagUpstream},
	} {
		for _, f := range families {
			t.Run(fmt.Sprintf("IPv%d after %d", f, tc.passed), func(t *testing.T) {
				n := newNode(t)
				n.listen(3)
				n.listen(4)
				n.asks(n.a, egress, 3)
				n.asks(n.b, ingress, 4)
				n.put(n.objs.WeftRuleset, uint32(5), weftbpf.BpfWeftRulesetRow{As: 3})
				n.put(n.objs.WeftRuleset, uint32(6), weftbpf.BpfWeftRulesetRow{As: 4})
				n.put(n.objs.WeftRuleset, uint32(7), weftbpf.BpfWeftRulesetRow{As: 9, Before: 4})
				n.asProxy()
				mark := uint32(markPassed) | uint32(tc.passed)<<16
				n.toMarked(n.b, 0, mark, got(f, n.a, n.b, protoTCP, tcp(5000, 80, syn)))
				n.leg(f, n.a, n.b, 5000, tc.ruleset, tc.then, tc.flags)
			})
		}
	}
}

func TestNobodyListensForTheRuleset(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.asks(n.b, ingress, 2)
		n.told(f, proxyNotReady, func() (uint32, []byte) {
			v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
			return v, frame
		})
		n.told(f, proxyNotReady, func() (uint32, []byte) {
			v, _, frame := n.toMarked(n.b, n.uplink, 0, got(f, n.far, n.b, protoTCP, tcp(4000, 80, syn)))
			return v, frame
		})
		if ct, _ := n.flow(f, n.a, n.b, 4000, 80, protoTCP); ct != nil {
			t.Errorf("a refused call is in conntrack: %+v", ct)
		}
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoUDP, udp(4000, 80))) })
		// A socket alone is not enough: without a proxy in force nothing leads to it.
		n.listen(2)
		for _, row := range []weftbpf.BpfWeftL7Row{{Cgroup: [2]uint64{1}}, {Active: 1}, {Cgroup: [2]uint64{0, 1}, Active: 1}} {
			n.put(n.objs.WeftL7, uint32(0), row)
			n.told(f, proxyNotReady, func() (uint32, []byte) {
				v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, sent(f, n.a, n.b, protoTCP, tcp(4001, 80, syn)))
				return v, frame
			})
		}
	}
}

func TestOpenFlowsCannotMove(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.listen(1)
		n.open(f, n.a, n.b, 4000, 80)
		n.asks(n.b, ingress, 1)
		for range 2 {
			n.told(f, needsProxy, func() (uint32, []byte) {
				v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, ack)))
				return v, frame
			})
		}
		n.told(f, needsProxy, func() (uint32, []byte) {
			v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.b.ifindex}, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, ack)))
			return v, frame
		})
		if ct, _ := n.flow(f, n.a, n.b, 4000, 80, protoTCP); ct == nil || ct.Flags&flagRefused == 0 {
			t.Errorf("the flow is %+v", ct)
		}
		v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.up("a new SYN", v, mark, actOK)
	}
}

// The proxy chooses the port that its client has towards the same server, or the other
// way round.
func TestBothLegsMayHaveOnePort(t *testing.T) {
	for _, first := range []string{"client", "proxy"} {
		for _, f := range families {
			t.Run(fmt.Sprintf("IPv%d, first the %s", f, first), func(t *testing.T) {
				n := proxied(t)
				n.asProxy()
				client := func(flags uint8) {
					v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, flags)))
					n.up("the client's packet", v, mark, actOK)
				}
				proxy := func(flags uint8) {
					v, mark, _ := n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, flags)))
					if v != actOK || mark == markProxy {
						t.Errorf("the proxy's packet to the server: verdict %d, mark %#x", v, mark)
					}
				}
				toClient := func(flags uint8) {
					if v, mark, _ := n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, flags))); v != actOK || mark != 0 {
						t.Errorf("the proxy's packet to the client: verdict %d, mark %#x", v, mark)
					}
				}
				server := func(flags uint8) {
					v, mark := n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, flags)))
					n.up("the server's packet", v, mark, actOK)
				}
				opens := []func(uint8){client, proxy}
				if first == "proxy" {
					opens = []func(uint8){proxy, client}
				}
				for _, do := range opens {
					do(syn)
					do(syn) // again
				}
				n.leg(f, n.a, n.b, 4000, 1, 0, 0)
				n.leg(f, n.a, n.b, 4000, 1, 1, flagUpstream)
				toClient(syn | ack)
				server(syn | ack)
				client(ack)
				proxy(ack)
				for range 3 {
					server(ack)
					toClient(ack)
				}
				one, _ := n.flow(f, n.a, n.b, 4000, 80, protoTCP)
				for name, ct := range map[string]*weftbpf.BpfWeftCt{"client's": one, "proxy's": n.beside(f, n.a, n.b, 4000, 80)} {
					if ct == nil || ct.Packets != [2]uint64{3, 4} || ct.Tcp[0]&ct.Tcp[1] != syn|ack {
						t.Errorf("the %s flow is %+v", name, ct)
					}
				}
				quoted := packet(f, n.a.ip[f], n.b.ip[f], protoTCP, tcp(4000, 80, ack))
				proto, _, _ := echo(f)
				kind := errorsOf(f)["too big"]
				v, mark := n.fromMarked(n.b, sent(f, n.b, n.a, proto, icmp(kind[0], kind[1], 0, quoted...)))
				n.up("an error about what the proxy sent", v, mark, actOK)

				// One ends, the other goes on, and the port may come again.
				client(fin | ack)
				toClient(fin | ack)
				proxy(ack)
				server(ack)
				if ct := n.beside(f, n.a, n.b, 4000, 80); ct.Flags&flagClosing != 0 {
					t.Errorf("the proxy's flow is %+v", ct)
				}
				client(syn)
				n.forget(f, n.a, n.b, 4000, 80, protoTCP)
				proxy(ack)
				server(ack)
			})
		}
	}
}
