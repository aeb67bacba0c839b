// SPDX-License-Identifier: Apache-2.0

// Package ranges divides the cluster's pod ranges among its nodes. It is pure
// bookkeeping in memory, restored from what nodes have; nothing here is safe for
// concurrent use.
package ranges

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Lengths of the blocks that nodes get. A pool that is smaller is one block.
const (
	Bits4 = 24 // 253 pods a node
	Bits6 = 64
)

// maxBlockBits bounds how many blocks of a large range are used.
const maxBlockBits = 62

// Errors that callers branch on.
var (
	ErrExhausted = errors.New("no block is free")
	ErrOverlap   = errors.New("overlaps")
)

// Pool knows which node has which ranges.
type Pool struct {
	spaces []*space
	owned  map[string][]netip.Prefix // by node; no two overlap
	last   map[string][]netip.Prefix // what a node had that went
}

// space is one of the cluster's ranges.
type space struct {
	prefix netip.Prefix
	bits   int    // length of a block
	blocks uint64 // how many there are
	next   uint64 // they go round, so that what was freed is used again last
}

// New is for the cluster's ranges; of a family, those named first are used first.
func New(cluster []netip.Prefix) *Pool {
	p := &Pool{owned: map[string][]netip.Prefix{}, last: map[string][]netip.Prefix{}}
	for _, c := range cluster {
		bits := Bits6
		if c.Addr().Is4() {
			bits = Bits4
		}
		bits = max(bits, c.Bits())
		p.spaces = append(p.spaces, &space{prefix: c, bits: bits, blocks: 1 << min(bits-c.Bits(), maxBlockBits)})
	}
	return p
}

// Of returns the ranges of a node.
func (p *Pool) Of(node string) []netip.Prefix { return slices.Clone(p.owned[node]) }

// Nodes counts the nodes that have ranges.
func (p *Pool) Nodes() int { return len(p.owned) }

// Adopt notes what a node has, in place of what was noted before. If another node
// has a part of it, nothing changes.
func (p *Pool) Adopt(node string, ranges []netip.Prefix) error {
	if slices.Equal(p.owned[node], ranges) {
		return nil
	}
	for other, owned := range p.owned {
		if other == node {
			continue
		}
		for _, o := range owned {
			for _, r := range ranges {
				if o.Overlaps(r) {
					return fmt.Errorf("%s %w %s of node %s", r, ErrOverlap, o, other)
				}
			}
		}
	}
	p.owned[node] = slices.Clone(ranges)
	for _, s := range p.spaces {
		for _, r := range ranges {
			s.passed(r)
		}
	}
	return nil
}

// Assign gives a node a block of each family that the pool has and the node has
// not: what it had before it went, if that is still free. named tells whether
// someone else still speaks of addresses in a block, which then is not given out.
// On an error nothing changes.
func (p *Pool) Assign(node string, named func(netip.Prefix) bool) ([]netip.Prefix, error) {
	out := slices.Clone(p.owned[node])
	used := p.index()
	for _, is4 := range []bool{true, false} {
		if !p.has(is4) || slices.ContainsFunc(out, func(r netip.Prefix) bool { return r.Addr().Is4() == is4 }) {
			continue
		}
		block, ok := p.former(node, is4, used)
		if !ok {
			block, ok = p.free(is4, func(b netip.Prefix) bool { return used.overlaps(b) || named != nil && named(b) })
		}
		if !ok {
			return nil, p.exhausted(is4)
		}
		out = append(out, block)
	}
	return out, p.Adopt(node, out)
}

func (p *Pool) exhausted(is4 bool) error {
	family, bits := "IPv6", Bits6
	if is4 {
		family, bits = "IPv4", Bits4
	}
	return fmt.Errorf("%w: the %s ranges of clusterCIDRs are divided among %d nodes, a /%d each; "+
		"add a range to clusterCIDRs in the configuration", ErrExhausted, family, len(p.owned), bits)
}

func (p *Pool) has(is4 bool) bool {
	return slices.ContainsFunc(p.spaces, func(s *space) bool { return s.prefix.Addr().Is4() == is4 })
}

// former is the block that the node had once.
func (p *Pool) former(node string, is4 bool, used index) (netip.Prefix, bool) {
	for _, r := range p.last[node] {
		if r.Addr().Is4() == is4 && p.divides(r) && !used.overlaps(r) {
			return r, true
		}
	}
	return netip.Prefix{}, false
}

// divides tells whether a range is one of the blocks.
func (p *Pool) divides(r netip.Prefix) bool {
	return slices.ContainsFunc(p.spaces, func(s *space) bool { return r.Bits() == s.bits && s.prefix.Contains(r.Addr()) })
}

func (p *Pool) free(is4 bool, taken func(netip.Prefix) bool) (netip.Prefix, bool) {
	for _, s := range p.spaces {
		if s.prefix.Addr().Is4() != is4 {
			continue
		}
		for i := range s.blocks {
			if b := s.at((s.next + i) % s.blocks); !taken(b) {
				return b, true
			}
		}
	}
	return netip.Prefix{}, false
}

// Release frees what a node had.
func (p *Pool) Release(node string) {
	if owned, ok := p.owned[node]; ok {
		p.last[node] = owned
		delete(p.owned, node)
	}
}

// Usage is how much of one of the cluster's ranges is given out, in blocks.
type Usage struct {
	Prefix       netip.Prefix
	Used, Blocks uint64
}

// Usage is in the order of the ranges.
func (p *Pool) Usage() []Usage {
	out := make([]Usage, len(p.spaces))
	for i, s := range p.spaces {
		out[i] = Usage{Prefix: s.prefix, Blocks: s.blocks}
		for _, owned := range p.owned {
			for _, r := range owned {
				if s.prefix.Overlaps(r) {
					out[i].Used += 1 << min(max(s.bits-max(r.Bits(), s.prefix.Bits()), 0), maxBlockBits)
				}
			}
		}
	}
	return out
}

// at is the block of a number.
func (s *space) at(n uint64) netip.Prefix {
	if s.prefix.Addr().Is4() {
		b := s.prefix.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|uint32(n<<(32-s.bits)))
		return netip.PrefixFrom(netip.AddrFrom4(b), s.bits)
	}
	b := s.prefix.Addr().As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if s.bits <= 64 {
		high |= n << (64 - s.bits)
	} // else the range is one block
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.PrefixFrom(netip.AddrFrom16(b), s.bits)
}

// passed makes the next block one after a range that was given out.
func (s *space) passed(r netip.Prefix) {
	if !s.prefix.Contains(r.Addr()) || r.Bits() < s.bits {
		return
	}
	var n uint64
	if r.Addr().Is4() {
		b, base := r.Addr().As4(), s.prefix.Addr().As4()
		n = uint64(binary.BigEndian.Uint32(b[:])-binary.BigEndian.Uint32(base[:])) >> (32 - s.bits)
	} else if s.bits <= 64 {
		b, base := r.Addr().As16(), s.prefix.Addr().As16()
		n = (binary.BigEndian.Uint64(b[:8]) - binary.BigEndian.Uint64(base[:8])) >> (64 - s.bits)
	}
	s.next = (n + 1) % s.blocks
}

// index finds overlaps with what is in use without going through all of it.
type index struct {
	blocks map[netip.Prefix]bool // that a range lies in
	wide   []netip.Prefix        // wider than a block
}

func (p *Pool) index() index {
	x := index{blocks: map[netip.Prefix]bool{}}
	for _, owned := range p.owned {
		for _, r := range owned {
			for _, s := range p.spaces {
				switch {
				case !s.prefix.Overlaps(r):
				case r.Bits() < s.bits:
					x.wide = append(x.wide, r)
				default:
					x.blocks[netip.PrefixFrom(r.Addr(), s.bits).Masked()] = true
				}
			}
		}
	}
	return x
}

func (x index) overlaps(block netip.Prefix) bool {
	return x.blocks[block] || slices.ContainsFunc(x.wide, block.Overlaps)
}
