// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"testing"

	"github.com/weftmesh/weft/pkg/datapath/weftbpf"
)

// both is a node whose pod a may talk to port 80 by ruleset 3 alone, whose pod b lets
// everybody in there by ruleset 4, and on which 5 is the pair of these.
func both(t testing.TB) *node {
	t.Helper()
	n := newNode(t)
	for ruleset := range uint16(5) {
		n.listen(ruleset + 1)
	}
	n.ask(3, 4)
	n.pair(true)
	return n
}

// ask has these rulesets asked of connections from pod a to port 80 of pod b; 0: none.
func (n *node) ask(first, then uint16) {
	n.Helper()
	n.asks(n.a, egress, first)
	n.asks(n.b, ingress, then)
}

// pair says what ruleset 5 is, and whether connections that begin get it.
func (n *node) pair(begin bool) {
	n.Helper()
	n.put(n.objs.WeftRuleset, uint32(5), weftbpf.BpfWeftRulesetRow{First: 3, Then: 4})
	key := weftbpf.BpfWeftBothKey{First: 3, Then: 4}
	if begin {
		n.put(n.objs.WeftBoth, key, uint32(5))
	} else if err := n.objs.WeftBoth.Delete(key); err != nil {
		n.Fatal(err)
	}
}

func (n *node) call(f int, port uint16, flags uint8) {
	n.Helper()
	v, mark := n.fromMarked(n.a, sent(f, n.a, n.b, protoTCP, tcp(port, 80, flags)))
	n.up("the client's packet", v, mark, actOK)
}

// proxyCalls is a SYN of the proxy's, which has passed a ruleset.
func (n *node) proxyCalls(f int, port uint16, passed uint32) {
	n.Helper()
	n.toMarked(n.b, 0, markPassed|passed<<16, got(f, n.a, n.b, protoTCP, tcp(port, 80, syn)))
}

// Where both sides ask for a ruleset one pass will do, if there is a pair of them for
// which the proxy listens.
func TestBothRulesetsAreOnePass(t *testing.T) {
	for _, f := range families {
		n := both(t)
		n.call(f, 4000, syn)
		n.leg(f, n.a, n.b, 4000, 5, 0, 0)
		n.call(f, 4001, ack) // one whose entry was lost
		n.leg(f, n.a, n.b, 4001, 5, 0, 0)
		n.asProxy()
		n.proxyCalls(f, 5000, 5)
		n.leg(f, n.a, n.b, 5000, 5, 5, flagUpstream)
		n.proxyCalls(f, 5001, 3)
		n.leg(f, n.a, n.b, 5001, 4, 3, 0)
		n.proxyCalls(f, 5002, 4)
		n.leg(f, n.a, n.b, 5002, 4, 4, flagUpstream)

		n.ask(3, 0)
		n.call(f, 4002, syn)
		n.leg(f, n.a, n.b, 4002, 3, 0, 0)
		n.ask(0, 4)
		n.call(f, 4003, syn)
		n.leg(f, n.a, n.b, 4003, 4, 0, 0)
		n.ask(3, 2)
		n.call(f, 4004, syn)
		n.leg(f, n.a, n.b, 4004, 3, 0, 0)

		n.ask(3, 4)
		if err := n.objs.WeftProxy.Delete(weftbpf.BpfWeftProxyKey{Family: uint8(f), Ruleset: 5}); err != nil {
			t.Fatal(err)
		}
		n.call(f, 4005, syn)
		n.leg(f, n.a, n.b, 4005, 3, 0, 0)
	}
}

// Who has passed a pair has passed both its rulesets, and no others.
func TestAPairSatisfiesItsRulesetsAlone(t *testing.T) {
	for _, f := range families {
		n := both(t)
		n.listen(8)
		n.put(n.objs.WeftRuleset, uint32(3), weftbpf.BpfWeftRulesetRow{As: 6})
		n.put(n.objs.WeftRuleset, uint32(4), weftbpf.BpfWeftRulesetRow{As: 7, Before: 9})
		n.put(n.objs.WeftRuleset, uint32(6), weftbpf.BpfWeftRulesetRow{As: 8})
		n.asProxy()
		for i, tc := range []struct {
			first, then, ruleset uint16
			flags                uint8
		}{
			{3, 4, 5, flagUpstream}, {3, 0, 5, flagUpstream}, {0, 4, 5, flagUpstream}, {0, 0, 5, flagUpstream},
			{1, 4, 1, 0}, {3, 1, 1, 0}, {1, 2, 1, 0}, {1, 0, 1, 0}, {0, 1, 1, 0},
			{6, 4, 5, flagUpstream}, {3, 7, 5, flagUpstream}, {6, 7, 5, flagUpstream}, {7, 4, 5, flagUpstream}, {8, 4, 8, 0},
		} {
			n.ask(tc.first, tc.then)
			port := 5000 + uint16(i)
			n.proxyCalls(f, port, 5)
			n.leg(f, n.a, n.b, port, tc.ruleset, 5, tc.flags)
		}
	}
}

// An open connection stays with what it has, whether there is a pair or not. A pair's must
// satisfy both that are asked; of others what is asked then is a matter of the next leg.
func TestOpenConnectionsStayWithTheirPass(t *testing.T) {
	for _, f := range families {
		n := both(t)
		n.asProxy()
		n.call(f, 4000, syn)
		n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4000, syn|ack)))
		n.proxyCalls(f, 5000, 5)
		n.fromMarked(n.b, sent(f, n.b, n.a, protoTCP, tcp(80, 5000, syn|ack)))
		goes := func(f int, port, ruleset uint16) {
			n.Helper()
			n.call(f, port, ack)
			n.leg(f, n.a, n.b, port, ruleset, 0, 0)
		}
		upstream := func() (uint32, []byte) {
			v, mark, frame := n.toMarked(n.b, 0, markPassed|5<<16, got(f, n.a, n.b, protoTCP, tcp(5000, 80, ack)))
			if v == actOK && mark == markProxy {
				t.Error("the proxy's packet comes back to it")
			}
			return v, frame
		}
		n.pair(false)
		n.ask(3, 4)
		goes(f, 4000, 5)
		n.call(f, 4001, syn)
		n.leg(f, n.a, n.b, 4001, 3, 0, 0)
		n.toMarked(n.a, 0, 0, got(f, n.b, n.a, protoTCP, tcp(80, 4001, syn|ack)))
		n.pair(true)
		for _, asked := range [][2]uint16{{3, 4}, {3, 0}, {0, 0}} {
			n.ask(asked[0], asked[1])
			goes(f, 4000, 5)
			goes(f, 4001, 3)
			if v, _ := upstream(); v != actOK {
				t.Errorf("the proxy's packet to the server: verdict %d", v)
			}
			n.leg(f, n.a, n.b, 5000, 5, 5, flagUpstream)
		}
		n.ask(0, 4)
		goes(f, 4000, 5)
		ends := func() {
			n.told(f, needsProxy, func() (uint32, []byte) {
				v, frame, _ := n.run(n.objs.WeftFromPod, skb{Ifindex: n.a.ifindex}, sent(f, n.a, n.b, protoTCP, tcp(4000, 80, ack)))
				return v, frame
			})
		}
		n.ask(3, 2)
		goes(f, 4001, 3)
		n.told(f, needsProxy, upstream)
		ends()
		n.ask(3, 4)
		goes(f, 4000, 5)
		n.ask(2, 4)
		ends()
	}
}
