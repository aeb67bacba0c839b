// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weftmesh/weft/pkg/model"
)

// Precedences of the actions: of two look-ups the higher decides.
const (
	PrecedenceAllow uint32 = 1
	PrecedenceDeny  uint32 = 2
)

// portPrefix is a prefix of (protocol, port), 24 bits: 0 bits are everything, 8
// a whole protocol, 24 one port.
type portPrefix struct {
	bits  uint8 // 0, or 8 to 24
	proto uint8
	port  uint16
}

// parent is the next shorter prefix; the one of 0 bits has none.
func (p portPrefix) parent() portPrefix {
	if p.bits <= 8 {
		return portPrefix{}
	}
	p.bits--
	p.port &^= 1 << (24 - p.bits - 1)
	return p
}

func comparePortPrefixes(a, b portPrefix) int {
	return cmp.Or(cmp.Compare(a.bits, b.bits), cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port))
}

// transports are the protocols that a port without a protocol means.
func transports() []uint8 { return []uint8{model.ProtoTCP, model.ProtoUDP, model.ProtoSCTP} }

// rangePrefixes covers a range of ports with the fewest prefixes, 30 at most.
func rangePrefixes(proto uint8, first, last uint16, add func(portPrefix)) {
	protos := []uint8{proto}
	if proto == 0 {
		protos = transports()
	}
	for lo := uint32(first); lo <= uint32(last); {
		size := uint32(1) << 16 // of the largest aligned block at lo
		if lo != 0 {
			size = lo & -lo
		}
		for lo+size-1 > uint32(last) {
			size >>= 1
		}
		bits := uint8(24)
		for s := size; s > 1; s >>= 1 {
			bits--
		}
		for _, p := range protos {
			add(portPrefix{bits: bits, proto: p, port: uint16(lo)})
		}
		lo += size
	}
}

// saying is what the rules of one prefix say: the strongest action, and of the
// rules with that action the first in order. An allow that asks for nothing above
// ports is stronger than those that do; of those all are noted.
type saying struct {
	precedence uint32
	order      int
	l7         []int // rules that ask for more, sorted; nil: the rule of order does not
}

// with is what two sayings say together.
func (s saying) with(o saying) saying {
	switch {
	case s.precedence > o.precedence:
		return s
	case s.precedence < o.precedence:
		return o
	case s.l7 == nil && o.l7 != nil:
		return s
	case s.l7 != nil && o.l7 == nil:
		return o
	}
	out := saying{precedence: s.precedence, order: min(s.order, o.order)}
	if s.l7 != nil {
		out.l7 = slices.Concat(s.l7, o.l7)
		slices.Sort(out.l7)
		out.l7 = slices.Compact(out.l7)
	}
	return out
}

// same tells whether two sayings decide the same.
func (s saying) same(o saying) bool {
	return s.precedence == o.precedence && slices.Equal(s.l7, o.l7)
}

// row is one resolved row under an identity or under everybody.
type row struct {
	portPrefix
	saying
}

// resolve turns what rules say about overlapping prefixes into rows of which
// the longest match says what all that match say together. They are in the order
// of entries.
func resolve(said map[portPrefix]saying) []row {
	out := make([]row, 0, len(said))
	kept := make(map[portPrefix]saying, len(said)) // of rows so far
	for _, p := range slices.SortedFunc(maps.Keys(said), comparePortPrefixes) {
		outer := around(kept, p)
		s := outer.with(said[p])
		if s.same(outer) {
			continue
		}
		kept[p] = s
		out = append(out, row{p, s})
	}
	slices.SortFunc(out, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port), cmp.Compare(a.bits, b.bits))
	})
	return out
}

// around is what the longest row around a prefix says. Each row says what the
// shorter ones say, too.
func around(kept map[portPrefix]saying, p portPrefix) saying {
	for p.bits > 0 {
		p = p.parent()
		if s, ok := kept[p]; ok {
			return s
		}
	}
	return saying{}
}
