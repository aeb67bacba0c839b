// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// A connection of the client's has ended, the proxy has its port, and what the client
// still sends for the old one ends nothing.
func TestWhatIsLeftOfALegDoesNotEndTheOther(t *testing.T) {
	for _, f := range families {
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
		client(syn)
		n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, fin|ack)))
		client(fin | ack)
		proxy(syn)
		v, mark := n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, syn|ack)))
		n.up("the server's packet", v, mark, actOK)
		proxy(ack)
		client(rst)
		n.leg(f, n.a, n.b, 4000, 1, 1, flagUpstream)
		if ct := n.beside(f, n.a, n.b, 4000, 80); ct.Flags&flagClosing != 0 || ct.Packets != [2]uint64{2, 1} {
			t.Errorf("the proxy's flow is %+v", ct)
		}
		client(syn)
		n.leg(f, n.a, n.b, 4000, 1, 1, flagUpstream)
		n.leg(f, n.a, n.b, 4000, 1, 0, 0)
		proxy(ack)
		// Nor does what the server sends for one of the proxy's that is forgotten.
		answered, unanswered := n.tables(f)
		k := besideKey(f, n.a, n.b, 4000, 80)
		if err := errors.Join(gone(answered.Delete(k)), gone(unanswered.Delete(k))); err != nil {
			t.Fatal(err)
		}
		n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, rst)))
		if ct, _ := n.flow(f, n.a, n.b, 4000, 80, protoTCP); ct == nil || ct.Flags&flagClosing != 0 {
			t.Errorf("the client's flow is %+v", ct)
		}
	}
}

// endedLeg is the proxy's connection with the server, which has ended and is still known.
func (n *node) endedLeg(f int) {
	n.Helper()
	n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
	v, mark := n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, syn|ack)))
	n.up("the server's answer", v, mark, actOK)
	n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, rst)))
	if ct := n.beside(f, n.a, n.b, 4000, 80); ct.Flags&flagClosing == 0 {
		n.Fatalf("the proxy's flow is %+v; want it closing", ct)
	}
}

// The proxy opens another connection by a port that it had before.
func TestTheProxyUsesAPortAgain(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.asProxy()
		n.endedLeg(f)
		n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		if ct := n.beside(f, n.a, n.b, 4000, 80); ct.Flags&flagClosing != 0 || ct.Packets != [2]uint64{1, 0} {
			t.Errorf("the proxy's flow is %+v; want one that begins", ct)
		}
	}
}

// A client needs no proxy any more, and has the port of a connection of the proxy's that
// has ended: what the server answers is for the client.
func TestACallByAnEndedPortHasItsAnswers(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.asProxy()
		n.endedLeg(f)
		n.policy(n.b, entry{dir: ingress, action: allow, precedence: 1})
		n.passes(actRedirect, func() uint32 { return n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn))) })
		n.passes(actRedirect, func() uint32 { return n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, syn|ack))) })
		if ct, answered := n.flow(f, n.a, n.b, 4000, 80, protoTCP); !answered || ct.Packets != [2]uint64{1, 1} {
			t.Errorf("the client's flow is %+v, answered %v", ct, answered)
		}
	}
}

// A direct connection of the client's has ended, the proxy has its port, and what the
// server answers is for the proxy, though the ended flow is still known.
func TestWhatEndedHasNoneOfTheProxysAnswers(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.listen(1)
		n.asProxy()
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.from(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, rst|ack)))
		n.asks(n.b, ingress, 1)
		n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		for _, flags := range []uint8{syn | ack, ack} {
			v, mark := n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 4000, flags)))
			n.up("the server's answer", v, mark, actOK)
		}
	}
}

func TestWhoComesSecondToAPortIsTold(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.listen(3)
		n.listen(4)
		n.asProxy()
		mark := func(passed uint32) func() (uint32, []byte) {
			return func() (uint32, []byte) {
				v, mark, frame := n.toMarked(n.b, 0, markPassed|passed<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
				n.up("the answer", v, mark, actRedirect)
				return v, frame
			}
		}
		call := func(port uint16) func() (uint32, []byte) {
			return func() (uint32, []byte) {
				v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, sent(f, n.a, n.b, protoTCP, tcp(port, 80, syn)))
				return v, frame
			}
		}
		// The client's connection does not end in the proxy.
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.told(f, proxyClash, mark(4))
		n.leg(f, n.a, n.b, 4000, 0, 0, 0)
		n.forget(f, n.a, n.b, 4000, 80, protoTCP)
		// It does, and the proxy comes to itself.
		n.asks(n.a, egress, 3)
		n.asks(n.b, ingress, 4)
		n.from(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.told(f, proxyClash, mark(3))
		n.leg(f, n.a, n.b, 4000, 3, 0, 0)
		n.toMarked(n.b, 0, markPassed|3<<16, got(f, n.a, n.b, protoTCP, tcp(4001, 80, syn)))
		n.told(f, proxyClash, call(4001))
		n.leg(f, n.a, n.b, 4001, 4, 3, 0)
		// The proxy's connection to the server stands, the client needs no proxy, and
		// that of its ruleset takes none.
		n.toMarked(n.b, 0, markPassed|4<<16, got(f, n.a, n.b, protoTCP, tcp(4002, 80, syn)))
		n.policy(n.a, entry{dir: egress, action: allow, precedence: 1})
		n.policy(n.b, entry{dir: ingress, action: allow, precedence: 1})
		if err := n.objs.WeftProxy.Delete(weftbpf.BpfWeftProxyKey{Family: uint8(f), Ruleset: 4}); err != nil {
			t.Fatal(err)
		}
		n.told(f, proxyClash, call(4002))
		n.leg(f, n.a, n.b, 4002, 4, 4, flagUpstream)
		if ct, _ := n.flow(f, n.a, n.b, 4002, 80, protoTCP); ct != nil {
			t.Errorf("the client's flow is %+v", ct)
		}
		n.changeAt(f, besideKey(f, n.a, n.b, 4002, 80), func(ct *weftbpf.BpfWeftCt) { ct.Flags |= flagClosing })
		n.passes(actRedirect, func() uint32 { v, _ := call(4002)(); return v })
	}
}

// A client needs no proxy any more, and has the port of a connection that the proxy
// still has with the server: it comes into the proxy, as that one's did.
func TestACallByAPortOfTheProxysComesIntoIt(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.asProxy()
		n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.policy(n.b, entry{dir: ingress, action: allow, precedence: 1})
		for _, flags := range []uint8{syn, syn, ack} {
			v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, flags)))
			n.up("the client's packet", v, mark, actOK)
		}
		n.leg(f, n.a, n.b, 4000, 1, 0, 0)
		n.leg(f, n.a, n.b, 4000, 1, 1, flagUpstream)
		n.policy(n.b, entry{dir: ingress, action: allow, precedence: 2})
		v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, ack)))
		n.up("a packet of the client's after policy has changed", v, mark, actOK)
		n.leg(f, n.a, n.b, 4000, 1, 0, 0)
	}
}

func TestATranslatedFlowSharesItsPortWithNobody(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.listen(1)
		n.asProxy()
		n.service(f, protoTCP, n.b)
		n.policy(n.b, entry{dir: ingress, proto: protoTCP, port: 8080, bits: 16, action: allow, precedence: 1, ruleset: 1})
		v, mark := n.fromMarked(n.a, sent(f, n.a, vip, protoTCP, tcp(4000, 80, syn)))
		n.up("a call of a service", v, mark, actOK)
		n.told(f, proxyClash, func() (uint32, []byte) {
			v, _, frame := n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.a, n.b, protoTCP, tcp(4000, 8080, syn)))
			return v, frame
		})
	}
}

func TestLegsFollowTheirRuleset(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.listen(2)
		open := sent(f, n.a, n.b, protoTCP, tcp(4000, 80, ack))
		n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn)))
		n.put(n.objs.WeftRuleset, uint32(1), weftbpf.BpfWeftRulesetRow{As: 2})
		n.asks(n.b, ingress, 2)
		v, mark := n.fromMarked(n.a, open)
		n.up("a packet of an open connection", v, mark, actOK)
		n.leg(f, n.a, n.b, 4000, 1, 0, 0)
		n.put(n.objs.WeftRuleset, uint32(1), weftbpf.BpfWeftRulesetRow{})
		n.asks(n.b, ingress, 2)
		n.told(f, needsProxy, func() (uint32, []byte) {
			v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, open)
			return v, frame
		})
	}
}

func TestACallThatComesAgainIsTold(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		call := sent(f, n.a, n.b, protoTCP, tcp(4000, 80, syn))
		v, mark := n.fromMarked(n.a, call)
		n.up("a call", v, mark, actOK)
		if err := n.objs.WeftProxy.Delete(weftbpf.BpfWeftProxyKey{Family: uint8(f), Ruleset: 1}); err != nil {
			t.Fatal(err)
		}
		n.told(f, proxyNotReady, func() (uint32, []byte) {
			v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, call)
			return v, frame
		})
	}
}

// What somebody forges of a leg from elsewhere does not get into the pod.
func TestOnlyTheProxySendsForItsLegs(t *testing.T) {
	for _, f := range families {
		n := proxied(t)
		n.asProxy()
		n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.far, n.b, protoTCP, tcp(4000, 80, syn)))
		n.fromMarked(n.b, sent(f, n.b, n.far, protoTCP, tcp(80, 4000, syn|ack)))
		v, mark, _ := n.toMarked(n.b, 0, markPassed|1<<16, got(f, n.far, n.b, protoTCP, tcp(4000, 80, ack)))
		if v != actOK || mark == markProxy {
			t.Errorf("the proxy's packet: verdict %d, mark %#x", v, mark)
		}
		v, mark, _ = n.toMarked(n.b, n.uplink, 0, got(f, n.far, n.b, protoTCP, tcp(4000, 80, ack)))
		n.up("a forged one", v, mark, actRedirect)

		// Nor does a server speak past the proxy to a client, answered before or not.
		n = newNode(t)
		n.listen(1)
		n.asks(n.a, egress, 1)
		n.asProxy()
		n.fromMarked(n.a, sent(f, n.a, n.far, protoTCP, tcp(4000, 80, syn)))
		for _, what := range []string{"before the proxy", "after it"} {
			v, mark, _ := n.toMarked(n.a, n.uplink, 0, got(f, n.far, n.a, protoTCP, tcp(80, 4000, syn|ack)))
			n.up("a server's own answer "+what, v, mark, actRedirect)
			if v, mark, _ = n.toMarked(n.a, 0, 0, got(f, n.far, n.a, protoTCP, tcp(80, 4000, syn|ack))); v != actOK || mark == markProxy {
				t.Errorf("IPv%d, the proxy's answer: verdict %d, mark %#x", f, v, mark)
			}
		}
	}
}

// sentOut is a packet of a socket of the host's own that leaves by the uplink.
func (n *node) sentOut(mark uint32, frame []byte) (verdict uint32) {
	n.Helper()
	v, _, _ := n.run(n.objs.WeftToNet, skb{Ifindex: n.uplink, Mark: mark}, frame)
	return v
}

func TestLegsToTheWorld(t *testing.T) {
	for _, f := range families {
		n := newNode(t)
		n.listen(1)
		n.asks(n.a, egress, 1)
		n.asProxy()
		v, mark := n.fromMarked(n.a, sent(f, n.a, n.far, protoTCP, tcp(4000, 80, syn)))
		n.up("a SYN to the world", v, mark, actOK)
		n.leg(f, n.a, n.far, 4000, 1, 0, 0)
		if v := n.sentOut(markPassed|1<<16, sent(f, n.a, n.far, protoTCP, tcp(4001, 80, syn))); v != asIs {
			t.Errorf("the proxy's SYN at the uplink: verdict %d", v)
		}
		n.leg(f, n.a, n.far, 4001, 1, 1, flagUpstream)
		v, mark, _ = n.toMarked(n.a, n.uplink, 0, got(f, n.far, n.a, protoTCP, tcp(80, 4001, syn|ack)))
		n.up("the world's answer to the proxy", v, mark, actRedirect)
		if v, _, ctx := n.run(n.objs.WeftFromNet, skb{Ifindex: n.uplink, IngressIfindex: n.uplink},
			got(f, n.far, n.a, protoTCP, tcp(80, 4001, ack))); v != actRedirect || ctx.Mark != 0 {
			t.Errorf("an answer at the uplink: verdict %d", v)
		}
		n.sentOut(markPassed|9<<16, sent(f, n.a, n.far, protoTCP, tcp(4002, 80, syn)))
		n.leg(f, n.a, n.far, 4002, 1, 9, 0)
		n.policy(n.a)
		n.told(f, policyDefault, func() (uint32, []byte) {
			v, frame, _ := n.run(n.objs.WeftToNet, skb{Ifindex: n.uplink, Mark: markPassed | 1<<16},
				sent(f, n.a, n.far, protoTCP, tcp(4001, 80, ack)))
			return v, frame
		})

		proto, _, _ := echo(f)
		kind := errorsOf(f)["too big"]
		n.asks(n.a, egress, 1)
		n.fromMarked(n.a, sent(f, n.a, n.far, protoTCP, tcp(4003, 80, syn)))
		n.sentOut(markPassed|1<<16, sent(f, n.a, n.far, protoTCP, tcp(4004, 80, syn)))
		for port, up := range map[uint16]bool{4003: false, 4004: true} {
			quoted := packet(f, n.a.ip[f], n.far.ip[f], protoTCP, tcp(port, 80, ack))
			v, mark, _ := n.toMarked(n.a, n.uplink, 0, got(f, n.far, n.a, proto, icmp(kind[0], kind[1], 0, quoted...)))
			if up {
				n.up("an error about what the proxy sent", v, mark, actRedirect)
			} else if v != actOK || mark != 0 {
				t.Errorf("IPv%d, an error about what the client sent: verdict %d, mark %#x", f, v, mark)
			}
		}
	}
}

// unifiedPath is where in the unified hierarchy /proc/self/cgroup says that one is.
func unifiedPath(text string) string {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "/"
}
